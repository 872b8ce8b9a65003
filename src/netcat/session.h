// A conversation between a network socket and a local side (standard input and output, or a program's), until both have
// ended. Used by callers and listeners alike; knows nothing of how the socket came about.
#pragma once

#include <poll.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "netcat/options.h"
#include "netcat/pump.h"

namespace limpid {

/// The side that is not the network.
struct LocalSide {
  UniqueFd owned_input;   ///< a program's standard output; invalid: standard input is borrowed
  UniqueFd owned_output;  ///< a program's standard input; invalid: standard output is borrowed
  bool is_program = false;
  /// Standard output ends with the conversation, because no other one follows.
  bool closes_output = true;

  [[nodiscard]] static LocalSide standard(bool closes_output);
  [[nodiscard]] int input() const noexcept;
  [[nodiscard]] int output() const noexcept;
};

/// Both directions are independent: the end of one never cuts off the other.
///
///   input ended    → TCP: our direction is shut down, if finish_after_input says so or the input was a program's
///   peer ended     → the local output is closed; what is still read locally goes on being sent
///   both ended     → finished. So it is with the peer's end alone where a person sits at a terminal.
///   reset, refused → what had arrived is still written, then finished with an error
class Session {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::size_t kPolls = 3;

  Session(Transport transport, UniqueFd network, LocalSide local, const ConversationLimits& limits);

  /// A datagram of this conversation that arrived at the listener.
  void put(std::span<const std::byte> datagram) { incoming_.put(datagram); }

  [[nodiscard]] std::array<pollfd, kPolls> polls() const noexcept;
  /// Does what poll(2) said is possible, and what the time demands.
  void advance(std::span<const pollfd, kPolls> polls);
  /// When advance() must be called even if nothing happens.
  [[nodiscard]] std::optional<Clock::time_point> deadline() const;

  [[nodiscard]] bool finished() const noexcept { return finished_; }
  [[nodiscard]] const Status& outcome() const noexcept { return outcome_; }

 private:
  void read_local();
  void write_network();
  void read_network();
  void write_local();
  void settle();
  void close_output();
  void network_failed(int code);
  void finish(Status outcome);
  void note_activity() { last_activity_ = Clock::now(); }

  Transport transport_;
  UniqueFd network_;
  LocalSide local_;
  ConversationLimits limits_;
  Pump outgoing_;
  Pump incoming_;
  bool input_is_terminal_;
  bool input_end_told_ = false;
  bool output_closed_ = false;
  bool finished_ = false;
  int network_error_ = 0;
  Status outcome_;
  Clock::time_point last_activity_ = Clock::now();
  std::optional<Clock::time_point> first_end_;
};

/// Waits until something happens at `sessions` or `others`, lets the sessions go on, and leaves what poll(2) said of
/// `others` in them. Returns at the latest at `wake_up`.
[[nodiscard]] Status advance_sessions(std::span<Session* const> sessions, std::span<pollfd> others,
                                      std::optional<Session::Clock::time_point> wake_up = std::nullopt);

}  // namespace limpid
