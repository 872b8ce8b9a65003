// A name that means the same as before, or fails as before, is no news.
#include "service/resolver_process.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "service/child_channel.h"

namespace limpid {
namespace {

/// One packet: what has become of one name.
struct Report {
  std::uint32_t edition = 0;
  std::uint32_t name = 0;
  std::uint32_t count = 0;
  std::array<sockaddr_storage, kMostAddresses> addresses{};
  std::array<char, 128> problem{};
};

/// The other way round: one name of a new list.
struct Wish {
  std::uint32_t edition = 0;
  std::uint32_t index = 0;
  std::uint32_t total = 0;
  std::uint16_t port = 0;
  std::array<char, 256> host{};
};

void send_report(std::uint32_t edition, std::size_t name, const std::vector<SocketAddress>& addresses,
                 std::string_view problem) {
  Report report;
  report.edition = edition;
  report.name = static_cast<std::uint32_t>(name);
  report.count = static_cast<std::uint32_t>(std::min(addresses.size(), kMostAddresses));
  for (std::size_t i = 0; i < report.count; ++i) {
    [[maybe_unused]] const auto length = addresses[i].to_native(report.addresses.at(i));
  }
  std::copy_n(problem.begin(), std::min(problem.size(), report.problem.size() - 1), report.problem.begin());
  // Nobody listens any more: the next poll(2) says so.
  send(kChildChannel, &report, sizeof report, MSG_NOSIGNAL);
}

/// What the child is about.
class Names {
 public:
  explicit Names(const ResolverProcess::Options& options)
      : names_(options.names), known_(options.known), failing_(names_.size(), false) {}

  /// Reads what the parent has sent. True when a new list is complete.
  bool take_wish() {
    Wish wish;
    if (recv(kChildChannel, &wish, sizeof wish, 0) != static_cast<ssize_t>(sizeof wish))
      _exit(0);  // it has closed its end
    if (wish.index == 0) wished_.clear();
    wish.host.back() = '\0';
    if (wish.total != 0) wished_.push_back({.host = wish.host.data(), .port = Port{wish.port}});
    if (wished_.size() < wish.total) return false;
    edition_ = wish.edition;
    names_ = std::move(wished_);
    wished_.clear();
    known_.assign(names_.size(), {});
    failing_.assign(names_.size(), false);
    return true;
  }

  void resolve() {
    for (std::size_t i = 0; i < names_.size(); ++i) {
      if (names_[i].is_address()) continue;
      const auto addresses = resolve_name(names_[i]);
      if (!addresses) {
        if (!failing_[i]) send_report(edition_, i, {}, addresses.error().cause);
        failing_[i] = true;
      } else if (*addresses != known_[i] || failing_[i]) {
        send_report(edition_, i, *addresses, "");
        known_[i] = *addresses;
        failing_[i] = false;
      }
    }
  }

 private:
  std::uint32_t edition_ = 0;
  std::vector<TargetName> names_;
  std::vector<std::vector<SocketAddress>> known_;
  std::vector<bool> failing_;
  std::vector<TargetName> wished_;  ///< as many of the next list as have arrived
};

[[noreturn]] void keep_resolving(const ResolverProcess::Options& options) {
  using Clock = std::chrono::steady_clock;
  Names names(options);
  auto next = Clock::now() + options.interval;
  for (;;) {
    const auto wait = std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now());
    pollfd parent{.fd = kChildChannel, .events = POLLIN, .revents = 0};
    const bool called = poll(&parent, 1, static_cast<int>(std::max<std::int64_t>(wait.count(), 0))) > 0;
    if (called && !names.take_wish()) continue;
    if (!called && Clock::now() < next) continue;
    names.resolve();
    next = Clock::now() + options.interval;
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
    // A unit without CAP_SETUID leaves it no other user: then it stays who it is.
    const bool begun = become_child(theirs.get(), parent, options.user, "limpid-resolver") ||
                       become_child(theirs.get(), parent, std::nullopt, "limpid-resolver");
    if (!begun) _exit(1);
    keep_resolving(options);
  }
  return ResolverProcess(pid, std::move(ours));
}

ResolverProcess::ResolverProcess(ResolverProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), channel_(std::move(other.channel_)) {}

ResolverProcess::~ResolverProcess() {
  if (pid_ < 0) return;
  channel_.reset();
  end_child(pid_);
}

bool ResolverProcess::tell(std::uint32_t edition, std::size_t index, std::size_t total, const TargetName& name) {
  Wish wish{.edition = edition,
            .index = static_cast<std::uint32_t>(index),
            .total = static_cast<std::uint32_t>(total),
            .port = name.port.value};
  std::copy_n(name.host.begin(), std::min(name.host.size(), wish.host.size() - 1), wish.host.begin());
  // Where nobody listens any more, next() says so.
  return send(channel_.get(), &wish, sizeof wish, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
}

Result<std::optional<ResolverNews>> ResolverProcess::next() {
  if (!channel_.valid()) return std::nullopt;
  Report report;
  const ssize_t received = recv(channel_.get(), &report, sizeof report, MSG_DONTWAIT);
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  if (received != static_cast<ssize_t>(sizeof report) || report.count > kMostAddresses) {
    channel_.reset();
    return failure("resolve", "", "the resolver process has ended; addresses stay as they are", "restart the relay");
  }
  ResolverNews news{.edition = report.edition, .name = report.name, .addresses = {}, .problem = {}};
  for (std::size_t i = 0; i < report.count; ++i) {
    if (const auto address = SocketAddress::from_native(report.addresses.at(i))) news.addresses.push_back(*address);
  }
  report.problem.back() = '\0';
  news.problem = report.problem.data();
  return news;
}

}  // namespace limpid
