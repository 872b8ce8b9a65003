// fork(2) without exec: the child has our code and nothing else of ours but one socket.
#include "service/resolver_process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

namespace limpid {
namespace {

constexpr int kChannel = 3;

/// One packet: what has become of one name.
struct Report {
  std::uint32_t name = 0;
  std::uint32_t count = 0;
  std::array<sockaddr_storage, kMostAddresses> addresses{};
  std::array<char, 128> problem{};
};

void send_report(std::size_t name, const std::vector<SocketAddress>& addresses, std::string_view problem) {
  Report report;
  report.name = static_cast<std::uint32_t>(name);
  report.count = static_cast<std::uint32_t>(std::min(addresses.size(), kMostAddresses));
  for (std::size_t i = 0; i < report.count; ++i) {
    [[maybe_unused]] const auto length = addresses[i].to_native(report.addresses.at(i));
  }
  std::copy_n(problem.begin(), std::min(problem.size(), report.problem.size() - 1), report.problem.begin());
  // Nobody listens any more: the next poll(2) says so.
  send(kChannel, &report, sizeof report, MSG_NOSIGNAL);
}

/// The child keeps the channel only: neither sockets nor the standard output that somebody may wait on for its end.
bool leave_everything(int channel, pid_t parent) {
  const int nothing = open("/dev/null", O_RDWR);
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (nothing >= 0) dup2(nothing, fd);
  }
  if (channel == kChannel ? fcntl(channel, F_SETFD, 0) != 0 : dup2(channel, kChannel) < 0) return false;
  if (close_range(kChannel + 1, ~0U, 0) != 0) return false;
  prctl(PR_SET_NAME, "limpid-resolver", 0, 0, 0);
  // Whoever kills the relay with SIGKILL means this process too. It may have happened already.
  return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && getppid() == parent;
}

[[noreturn]] void keep_resolving(const ResolverProcess::Options& options) {
  auto known = options.known;
  std::vector<bool> failing(options.names.size(), false);
  for (;;) {
    pollfd parent{.fd = kChannel, .events = POLLIN, .revents = 0};
    if (poll(&parent, 1, static_cast<int>(options.interval.count())) > 0) _exit(0);  // it has closed its end
    for (std::size_t i = 0; i < options.names.size(); ++i) {
      if (options.names[i].is_address()) continue;
      const auto addresses = resolve_name(options.names[i]);
      if (!addresses) {
        if (!failing[i]) send_report(i, {}, addresses.error().cause);
        failing[i] = true;
      } else if (*addresses != known[i] || failing[i]) {
        send_report(i, *addresses, "");
        known[i] = *addresses;
        failing[i] = false;
      }
    }
  }
}

}  // namespace

Result<ResolverProcess> ResolverProcess::start(const Options& options) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return system_error(errno, "make a socket pair", "");
  }
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return system_error(errno, "start", "the resolver");
  if (pid == 0) {
    // The user first: changing it clears PR_SET_PDEATHSIG (prctl(2)).
    const bool changed = !options.user || give_up_privileges(*options.user, {}).has_value();
    if (!changed || !leave_everything(theirs.get(), parent)) _exit(1);
    keep_resolving(options);
  }
  return ResolverProcess(pid, std::move(ours));
}

ResolverProcess::ResolverProcess(ResolverProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), channel_(std::move(other.channel_)) {}

ResolverProcess::~ResolverProcess() {
  if (pid_ < 0) return;
  kill(pid_, SIGKILL);
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

Result<std::optional<ResolverNews>> ResolverProcess::next() {
  if (!channel_.valid()) return std::nullopt;
  Report report;
  const ssize_t received = recv(channel_.get(), &report, sizeof report, MSG_DONTWAIT);
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  if (received != static_cast<ssize_t>(sizeof report) || report.count > kMostAddresses) {
    channel_.reset();
    return failure("resolve", "", "the resolver process has ended; the targets stay as they are", "restart the relay");
  }
  ResolverNews news{.name = report.name, .addresses = {}, .problem = {}};
  for (std::size_t i = 0; i < report.count; ++i) {
    if (const auto address = SocketAddress::from_native(report.addresses.at(i))) news.addresses.push_back(*address);
  }
  report.problem.back() = '\0';
  news.problem = report.problem.data();
  return news;
}

}  // namespace limpid
