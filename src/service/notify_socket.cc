// The protocol is a datagram of lines NAME=value (sd_notify(3), "Notes"): less than the library, which would bring four compressors along.
#include "service/notify_socket.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <utility>

namespace limpid {
namespace {

constexpr std::size_t kMostStatusBytes = 256;
/// For a supervisor whose queue is full.
constexpr int kPatienceMs = 1000;

/// The value, and the variable is gone.
std::string take_variable(const char* name) {
  // NOLINTBEGIN(concurrency-mt-unsafe): the process has one thread yet
  const char* const value = std::getenv(name);
  std::string taken = value != nullptr ? value : "";
  unsetenv(name);
  // NOLINTEND(concurrency-mt-unsafe)
  return taken;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

}  // namespace

std::string one_status_line(std::string_view text) {
  std::size_t length = std::min(text.size(), kMostStatusBytes);
  constexpr unsigned kContinuationMask = 0xC0;
  constexpr unsigned kContinuation = 0x80;
  while (length > 0 && length < text.size() &&
         (static_cast<unsigned char>(text[length]) & kContinuationMask) == kContinuation) {
    --length;
  }
  std::string line(text.substr(0, length));
  for (char& c : line) {
    constexpr unsigned char kDelete = 0x7f;
    if (static_cast<unsigned char>(c) < ' ' || static_cast<unsigned char>(c) == kDelete) c = ' ';
  }
  return line;
}

Result<NotifySocket> NotifySocket::open(std::string_view address) {
  NotifySocket made;
  if (address.empty()) return made;
  if ((address[0] != '/' && address[0] != '@') || address.size() < 2) {
    return usage_error("NOTIFY_SOCKET", address, "neither a path nor an abstract name",
                       "leave it to systemd, or unset it");
  }
  if (address.size() >= sizeof made.address_.sun_path) {
    return usage_error("NOTIFY_SOCKET", address, "longer than a socket's name can be (unix(7))");
  }
  made.address_.sun_family = AF_UNIX;
  std::memcpy(made.address_.sun_path, address.data(), address.size());
  // An abstract name begins with a zero byte and has no end of its own: its length says it. A path is closed by one.
  const bool abstract = address[0] == '@';
  if (abstract) made.address_.sun_path[0] = '\0';
  made.length_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size() + (abstract ? 0 : 1));
  if (auto early = made.connect()) made.early_ = std::make_shared<const UniqueFd>(std::move(*early));
  return made;
}

Result<NotifySocket> NotifySocket::take_from_environment() {
  const std::string address = take_variable("NOTIFY_SOCKET");
  const std::string interval = take_variable("WATCHDOG_USEC");
  const std::string pid = take_variable("WATCHDOG_PID");
  auto made = open(address);
  if (!made) return made;
  const auto microseconds = parse_number(interval);
  const bool for_us = pid.empty() || parse_number(pid) == static_cast<std::uint64_t>(getpid());
  // As sd_watchdog_enabled(3): a watchdog without somebody to tell is none.
  constexpr std::uint64_t kMostMicroseconds = 86'400'000'000 * 365;
  if (made->present() && for_us && microseconds && *microseconds > 0 && *microseconds < kMostMicroseconds)
    made->watchdog_ = std::chrono::microseconds(*microseconds);
  return made;
}

std::expected<UniqueFd, int> NotifySocket::connect() const {
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): what connect(2) asks for
  const auto* const name = reinterpret_cast<const sockaddr*>(&address_);
  if (!socket.valid() || ::connect(socket.get(), name, length_) != 0) return std::unexpected(errno);
  return socket;
}

/// A socket for each message: there are few, and the supervisor may have been replaced (daemon-reexec) between two.
void NotifySocket::send(std::string_view message) const {
  if (!present()) return;
  const auto fresh = connect();
  const bool forbidden = !fresh && fresh.error() == EACCES && early_;
  if (!fresh && !forbidden) return;  // nobody listens: nobody to tell
  const UniqueFd& socket = forbidden ? *early_ : *fresh;
  while (::send(socket.get(), message.data(), message.size(), MSG_NOSIGNAL) < 0 &&
         (errno == EAGAIN || errno == EINTR)) {
    pollfd wanted{.fd = socket.get(), .events = POLLOUT, .revents = 0};
    if (poll(&wanted, 1, kPatienceMs) == 0) return;
  }
}

void NotifySocket::ready(std::string_view status) const {
  send(fmt::format("READY=1\nSTATUS={}\n", one_status_line(status)));
}

std::vector<std::string> NotifySocket::variables() const {
  if (!present()) return {};
  std::string name(address_.sun_path, length_ - offsetof(sockaddr_un, sun_path));
  if (name.front() == '\0') {
    name.front() = '@';
  } else {
    name.pop_back();
  }
  std::vector<std::string> all{"NOTIFY_SOCKET=" + name};
  // Without WATCHDOG_PID: it is meant for whoever reads it.
  if (watchdog_) all.push_back(fmt::format("WATCHDOG_USEC={}", watchdog_->count()));
  return all;
}

void NotifySocket::reloading() const {
  begin_reload("Reading the configuration anew");
}

void NotifySocket::upgrading() const {
  begin_reload("Starting the program anew");
}

void NotifySocket::main_process(pid_t pid) const {
  send(fmt::format("MAINPID={}\n", pid));
}

void NotifySocket::begin_reload(std::string_view status) const {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec));
  send(fmt::format("RELOADING=1\nMONOTONIC_USEC={}\nSTATUS={}\n", microseconds.count(), status));
}

void NotifySocket::stopping(std::string_view status) const {
  send(fmt::format("STOPPING=1\nSTATUS={}\n", one_status_line(status)));
}

void NotifySocket::extend(std::chrono::microseconds more, std::string_view status) const {
  send(fmt::format("EXTEND_TIMEOUT_USEC={}\nSTATUS={}\n", more.count(), one_status_line(status)));
}

void NotifySocket::alive() const {
  send("WATCHDOG=1\n");
}

}  // namespace limpid
