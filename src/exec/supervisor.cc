// The loop between a program's call and the kernel's answer to it.
//
// A thread that calls bind, listen or connect is held by the kernel, which puts a notification into `listener`. Then:
//
//   receive      the notification: an id, the thread, the call's number and arguments
//   open         the thread (pidfd), fetch the socket that the call names, read whom it wants to reach
//   still valid? the id: if the thread died in between, its number may be another's now, and what was fetched as well
//   lend         transparency, mark, source: on the very socket, which both of us now hold open
//   answer       "go on", and the kernel runs the call as if nothing had happened; or the error that lending met
//
// The program can change what a pointer points to, or which socket a number means, after we have looked (seccomp(2) and
// seccomp_unotify(2) warn of that). Nothing depends on it: this is no security boundary but a gift. What we do is done
// to a socket of the program itself, whichever it showed us, and is the same that the user granted to all its sockets;
// the address that we read only decides whether a source is bound; and the call that goes on is judged by the kernel
// with the program's own privileges. A program that plays such tricks can only miss the gift.
//
// A program that asks for transparency itself (setsockopt) need not be privileged either: its call is done in its place.
//
// A signal may interrupt the held thread (not where the kernel has SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV): our answer
// then meets ENOENT and the call comes again. So lending twice is the same as lending once.
//
// One thread serves all. It waits for nothing but the kernel: reading memory can block on a page that the program
// itself serves (userfaultfd, FUSE), and then the program blocks itself.
#include "exec/supervisor.h"

#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <vector>

namespace limpid {
namespace {

constexpr std::size_t kMessageLimit = 16;

// Messages go to the standard error that the program has too. It is given up when the program ends, so that nobody who
// reads it to its end waits for daemons that the program left behind.
class Complaints {
 public:
  explicit Complaints(const Report& report) noexcept : report_(report) {}

  void add(const Error& error) {
    std::string text = error.message();
    if (told_.size() >= kMessageLimit || std::ranges::find(told_, text) != told_.end()) return;
    told_.push_back(std::move(text));
    // A reader that does not read must not hold up the program.
    pollfd writable{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    if (::poll(&writable, 1, 0) == 1 && writable.revents == POLLOUT) report_(error);
  }
  void end() noexcept { (void)::dup2(STDOUT_FILENO, STDERR_FILENO); }

 private:
  const Report& report_;
  std::vector<std::string> told_;
};

// poll(2) said that there is a notification, but its thread may die before we take it, and then kernels before 6.11
// wait for another one for ever, even when no process is left that could send it. So SIGALRM ends the wait.
class Watchdog {
 public:
  Watchdog() noexcept { set(1); }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  Watchdog(Watchdog&&) = delete;
  Watchdog& operator=(Watchdog&&) = delete;
  ~Watchdog() { set(0); }

 private:
  static void set(time_t seconds) noexcept {
    const itimerval timer{.it_interval = {}, .it_value = {.tv_sec = seconds, .tv_usec = 0}};
    (void)::setitimer(ITIMER_REAL, &timer, nullptr);
  }
};

// The kernel's structures may be longer than ours (SECCOMP_GET_NOTIF_SIZES).
struct Buffers {
  std::vector<std::byte> notification;
  std::vector<std::byte> answer;
};

Buffers make_buffers() {
  seccomp_notif_sizes sizes{};
  (void)::syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes);
  return {
      .notification = std::vector<std::byte>(std::max<std::size_t>(sizes.seccomp_notif, sizeof(seccomp_notif))),
      .answer = std::vector<std::byte>(std::max<std::size_t>(sizes.seccomp_notif_resp, sizeof(seccomp_notif_resp)))};
}

std::optional<seccomp_notif> receive(const UniqueFd& listener, Buffers& buffers) {
  std::ranges::fill(buffers.notification, std::byte{0});
  const Watchdog watchdog;
  if (::ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_RECV, buffers.notification.data()) != 0) return std::nullopt;
  seccomp_notif notification{};
  std::memcpy(&notification, buffers.notification.data(), sizeof notification);
  return notification;
}

bool is_still_valid(const UniqueFd& listener, std::uint64_t id) noexcept {
  return ::ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0;
}

void answer(const UniqueFd& listener, Buffers& buffers, const seccomp_notif_resp& response) noexcept {
  std::ranges::fill(buffers.answer, std::byte{0});
  std::memcpy(buffers.answer.data(), &response, sizeof response);
  // ENOENT: a signal has ended the wait, or the thread.
  (void)::ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_SEND, buffers.answer.data());
}

std::optional<ProgramCall> read_call(const seccomp_data& data, const Caller& caller) {
  const auto indirect = find_indirect_call(data);
  if (!indirect) return find_call(data);
  std::array<std::uint32_t, kIndirectWords> words{};
  // The shorter calls have fewer words, and memory may end behind them.
  (void)caller.read(indirect->words, std::as_writable_bytes(std::span(words)));
  return resolve_indirect_call(*indirect, words);
}

// sendmmsg(2) has an array of struct mmsghdr; the first begins with its struct msghdr.
void follow_message(ProgramCall& call, const Caller& caller) {
  struct {
    std::uint64_t address = 0;
    std::uint32_t length = 0;
  } wide;
  struct {
    std::uint32_t address = 0;
    std::uint32_t length = 0;
  } narrow;
  if (call.has_wide_words) {
    (void)caller.read(call.address, std::as_writable_bytes(std::span(&wide, 1)).first(12));
    call.address = wide.address;
    call.address_length = wide.length;
  } else {
    (void)caller.read(call.address, std::as_writable_bytes(std::span(&narrow, 1)));
    call.address = narrow.address;
    call.address_length = narrow.length;
  }
}

std::optional<SocketAddress> read_remote(ProgramCall call, const Caller& caller) {
  switch (call.call) {
    case SocketCall::bind:
    case SocketCall::listen:
    case SocketCall::setsockopt: return std::nullopt;
    case SocketCall::sendmsg:
    case SocketCall::sendmmsg: follow_message(call, caller); break;
    case SocketCall::connect:
    case SocketCall::sendto: break;
  }
  std::array<std::byte, 128> native{};  // sizeof(sockaddr_storage), the longest that the kernel takes
  if (call.address == 0 || call.address_length > native.size()) return std::nullopt;
  const auto wanted = std::span(native).first(call.address_length);
  return read_native_address(wanted.first(caller.read(call.address, wanted)));
}

enum class Outcome : std::uint8_t {
  go_on,  ///< the kernel runs the call
  done,   ///< the call is done: its result is 0
};

// What the kernel would refuse to an unprivileged program is done in its place; everything else is left to the kernel.
Result<Outcome> prepare_transparency(const ProgramCall& call, const LentSocket& socket, const Caller& caller) {
  std::array<std::byte, sizeof(int)> value{};
  if (call.address_length < value.size() || caller.read(call.address, value) != value.size()) return Outcome::go_on;
  if (std::ranges::count(value, std::byte{0}) == static_cast<std::ptrdiff_t>(value.size())) return Outcome::go_on;
  if (auto made = make_transparent(socket); !made) return std::unexpected(made.error());
  return Outcome::done;
}

/// An error is what the program gets instead of its call.
Result<Outcome> prepare(const UniqueFd& listener, const seccomp_notif& notification, const ExecOptions& options) {
  const auto caller = Caller::open(static_cast<pid_t>(notification.pid));
  if (!caller) return std::unexpected(caller.error());
  const auto call = read_call(notification.data, *caller);
  if (!call) return Outcome::go_on;
  const auto descriptor = caller->borrow(call->fd);
  // The call itself says EBADF.
  if (!descriptor && descriptor.error().code == EBADF) return Outcome::go_on;
  if (!descriptor) return std::unexpected(descriptor.error());
  const auto socket = inspect_lent_socket(descriptor->get());
  if (!socket) return Outcome::go_on;
  const auto remote = read_remote(*call, *caller);
  if (!is_still_valid(listener, notification.id)) return Outcome::go_on;
  if (call->call == SocketCall::setsockopt) return prepare_transparency(*call, *socket, *caller);
  if (auto lent = lend(*socket, remote, options); !lent) return std::unexpected(lent.error());
  return Outcome::go_on;
}

void serve_one(const UniqueFd& listener, Buffers& buffers, const ExecOptions& options, Complaints& complaints) {
  const auto notification = receive(listener, buffers);
  if (!notification) return;
  seccomp_notif_resp response{.id = notification->id, .val = 0, .error = 0, .flags = 0};
  const auto prepared = prepare(listener, *notification, options);
  if (prepared && *prepared == Outcome::go_on) response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
  if (!prepared) response.error = -std::max(prepared.error().code, 1);
  if (!prepared && is_still_valid(listener, notification->id)) {
    Error error = prepared.error();
    error.object += (error.object.empty() ? "for process " : ", for process ") + std::to_string(notification->pid);
    complaints.add(error);
  }
  answer(listener, buffers, response);
}

}  // namespace

void serve(const UniqueFd& listener, const Caller& program, const ExecOptions& options, const Report& report) {
  struct sigaction nothing{};
  nothing.sa_handler = [](int) {};  // no SA_RESTART: it ends the wait
  (void)::sigaction(SIGALRM, &nothing, nullptr);
  Complaints complaints(report);
  Buffers buffers = make_buffers();
  std::array watched{pollfd{.fd = listener.get(), .events = POLLIN, .revents = 0},
                     pollfd{.fd = program.descriptor().get(), .events = POLLIN, .revents = 0}};
  for (;;) {
    if (::poll(watched.data(), watched.size(), -1) < 0) continue;
    if ((watched[0].revents & POLLIN) != 0) {
      serve_one(listener, buffers, options, complaints);
    } else if (watched[0].revents != 0) {
      return;  // POLLHUP: nobody uses the filter any more
    }
    if (watched[1].revents != 0) {
      complaints.end();
      watched[1].fd = -1;
    }
  }
}

}  // namespace limpid
