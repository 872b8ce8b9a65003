// The access log: one line for each flow on standard output, or one entry in the journal, written by a thread of its own, so that a slow reader
// delays nobody.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/log.h"
#include "relay/relay.h"
#include "service/journal.h"
#include "service/line_output.h"

namespace limpid {

/// One line with its newline: ts proto client orig_dst target source bytes_up bytes_down duration_ms end, and upstream and cut_through where they are true of it. Where there
/// are rules: rule, and app and name if the decision depended on them.
[[nodiscard]] std::string format_access_line(const FlowRecord& record, LogFormat format);

/// Drains the relay's records from construction until finish(), which writes what is left if somebody still reads.
class AccessLog {
 public:
  enum class Output : std::uint8_t { standard_output, journal, nowhere };
  struct Options {
    LogFormat format = LogFormat::logfmt;
    Output output = Output::standard_output;
    std::uint64_t most_per_second = 0;                        ///< 0: all
    std::function<void(bool last)> each_round = [](bool) {};  ///< called by the thread, at least once a second
  };
  /// `log` hears, now and then, how many lines the limit has left out, and that lines are being lost, why, and when no longer.
  AccessLog(Relay& relay, Options options, const Logger& log);
  AccessLog(const AccessLog&) = delete;
  AccessLog& operator=(const AccessLog&) = delete;
  AccessLog(AccessLog&&) = delete;
  AccessLog& operator=(AccessLog&&) = delete;
  ~AccessLog() { finish(); }

  /// Writes what is left, for kFarewell at most, and ends; nothing is written any more.
  void finish();

  /// Lines or entries that could not be written, and why the last of them could not. Meant after finish().
  struct Losses {
    std::uint64_t lines = 0;
    std::string cause;
  };
  [[nodiscard]] const Losses& losses() const noexcept { return losses_; }

 private:
  static constexpr std::chrono::seconds kFarewell{2};
  void work(const std::stop_token& stopped);
  [[nodiscard]] std::chrono::milliseconds patience() const;
  void write_pending();
  void write_entry(const FlowRecord& record);
  [[nodiscard]] bool is_admitted();
  void tell_of_left_out(bool at_once);
  void note_loss(std::uint64_t lines, std::string cause);
  void tell_of_losses();

  Relay& relay_;
  Options options_;
  const Logger& log_;
  std::chrono::steady_clock::time_point window_{};  ///< the second that is counted
  std::uint64_t in_window_ = 0;
  std::uint64_t left_out_ = 0;  ///< since it was told
  std::chrono::steady_clock::time_point told_{};
  std::optional<Journal> journal_;
  std::vector<Field> fields_;  ///< of one entry
  LineOutput output_;
  std::string pending_;
  /// From finish() on: a reader that trickles is not waited for any longer.
  std::atomic<std::chrono::steady_clock::time_point> give_up_{std::chrono::steady_clock::time_point::max()};
  bool stalled_ = false;        ///< nothing could be written last time: nobody is waited for again until something can
  Losses losses_;               ///< in all
  std::uint64_t lost_now_ = 0;  ///< since it was last said that all is well again
  bool told_of_loss_ = false;   ///< and not yet that all is well again
  std::chrono::steady_clock::time_point next_loss_told_{};
  std::jthread thread_;  ///< last: it uses all of the above
};

}  // namespace limpid
