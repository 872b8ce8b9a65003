// NotifySocket: tells the service supervisor (systemd with Type=notify, or another that speaks sd_notify(3)) how the service fares, over the datagram
// socket that $NOTIFY_SOCKET names. Without one, says nothing. Called by the service; the watchdog's thread sends through it as well.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

class NotifySocket {
 public:
  NotifySocket() = default;  ///< nobody to tell
  /// Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment, so that no child speaks for us. Before there are threads.
  /// The error: the address makes no sense.
  [[nodiscard]] static Result<NotifySocket> take_from_environment();
  /// An address as the variable has it: "/path", or "@name" in the abstract namespace; empty: none.
  [[nodiscard]] static Result<NotifySocket> open(std::string_view address);

  [[nodiscard]] bool present() const noexcept { return length_ != 0; }
  /// How often the supervisor wants to hear from us at least; empty: no watchdog.
  [[nodiscard]] std::optional<std::chrono::microseconds> watchdog() const noexcept { return watchdog_; }

  /// For a program that is started to take over: "NAME=value", as we were started with.
  [[nodiscard]] std::vector<std::string> variables() const;

  /// `status` is a short sentence for people. Control characters become spaces, and the end of a long one is cut.
  void ready(std::string_view status) const;
  /// ready() comes behind it, whether the reload went well or not (systemd.service(5), Type=notify-reload).
  void reloading() const;
  /// Another process of ours takes over soon; ready() comes behind it, from either.
  void upgrading() const;
  /// It has: from now on it is the one who is listened to.
  void main_process(pid_t pid) const;
  void stopping(std::string_view status) const;
  /// Still stopping: we have at least `more` time from now on.
  void extend(std::chrono::microseconds more, std::string_view status) const;
  /// The watchdog's beat.
  void alive() const;

 private:
  void send(std::string_view message) const;
  void begin_reload(std::string_view status) const;
  /// Connected, or why not: an errno.
  [[nodiscard]] std::expected<UniqueFd, int> connect() const;

  /// For a path that may be opened no more once the service has become another user. Empty: nobody listened.
  std::shared_ptr<const UniqueFd> early_{};
  sockaddr_un address_{};
  socklen_t length_ = 0;
  std::optional<std::chrono::microseconds> watchdog_;
};

/// A sentence as it may stand in a message: one line, no control characters, at most 256 bytes, cut between two characters of UTF-8.
[[nodiscard]] std::string one_status_line(std::string_view text);

}  // namespace limpid
