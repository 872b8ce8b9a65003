// Acceptor: the listeners of one worker, and what happens to them when file descriptors run out.
#pragma once

#include <cstdint>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

enum class AcceptOutcome : std::uint8_t {
  accepted,
  empty,      ///< nobody waits
  exhausted,  ///< no file descriptor or memory for it; the connection still waits
};

struct Accepted {
  UniqueFd fd;
  SocketAddress client;
};

/// Level-triggered in epoll: what one round leaves is seen in the next. Not for several threads.
class Acceptor {
 public:
  /// Registers `listeners` with `epoll_fd` (borrowed) under the values data_of(0), data_of(1), …, and sets one
  /// descriptor aside.
  [[nodiscard]] static Result<Acceptor> create(int epoll_fd, std::vector<UniqueFd> listeners);

  /// The value that epoll reports for a listener. Its upper half is zero: never a flow's (whose generation is odd).
  [[nodiscard]] static std::uint64_t data_of(std::uint32_t listener) noexcept { return listener; }
  [[nodiscard]] std::uint32_t count() const noexcept { return static_cast<std::uint32_t>(listeners_.size()); }

  /// The listeners; borrowed.
  [[nodiscard]] std::vector<int> descriptors() const;

  [[nodiscard]] AcceptOutcome accept(std::uint32_t listener, Accepted& accepted) noexcept;
  /// As accept(), with the descriptor set aside if there is no other: for a connection that is going to be refused.
  /// Close it, then call refill_reserve().
  [[nodiscard]] AcceptOutcome accept_to_refuse(std::uint32_t listener, Accepted& accepted) noexcept;
  void refill_reserve() noexcept;

  /// Whether connections come with the headers of their SYNs (sender_of_syn()). Costs some memory for each of them.
  void keep_syn_headers(bool keep) noexcept;
  void pause() noexcept;  ///< epoll stops reporting the listeners; the kernel keeps queueing
  void resume() noexcept;
  [[nodiscard]] bool paused() const noexcept { return paused_; }
  /// Closes the listeners; whoever still waits in their queues is reset by the kernel.
  void close() noexcept { listeners_.clear(); }

 private:
  Acceptor(int epoll_fd, std::vector<UniqueFd> listeners, UniqueFd reserve) noexcept
      : epoll_fd_(epoll_fd), listeners_(std::move(listeners)), reserve_(std::move(reserve)) {}
  void set_events(std::uint32_t events) noexcept;

  int epoll_fd_;
  std::vector<UniqueFd> listeners_;
  UniqueFd reserve_;  ///< given up for a moment to accept, and refuse, when none is left
  bool paused_ = false;
  bool keeps_syn_headers_ = false;
};

/// Makes close() send a RST instead of a FIN, and closes.
void reset_connection(UniqueFd fd) noexcept;

}  // namespace limpid
