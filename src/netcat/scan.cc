// limpid nc -z: many connections at a time, each decided by its handshake, a refusal or the time limit.
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "net/resolve.h"
#include "netcat/call.h"
#include "netcat/session.h"

namespace limpid {
namespace {

using Clock = Session::Clock;

/// At a time. A router's or firewall's table is not filled by that, nor are our descriptors.
constexpr std::size_t kAtOnce = 64;
constexpr std::chrono::milliseconds kPatience{1000};

struct Attempt {
  SocketAddress target;
  UniqueFd network;
  int code = -1;  ///< 0 open, otherwise an errno; -1: not decided
};

void start(Attempt& attempt, const NetcatOptions& options, Status& trouble) {
  std::optional<SocketAddress> own;
  if (options.source || options.local_port.value != 0) {
    own = options.source.value_or(SocketAddress{.address = IpAddress::any(attempt.target.family()), .port = {}});
    own->port = options.local_port;
  }
  auto network = open_caller(options.transport, own, attempt.target,
                             options.transparent ? Transparency::always : Transparency::when_foreign);
  if (!network) {
    // What the peer has nothing to do with would be said of every port alike: it ends the scan.
    if (network.error().operation != "connect to") trouble = std::unexpected(network.error());
    attempt.code = network.error().code;
    return;
  }
  attempt.network = std::move(*network);
  // An empty datagram asks whether the port is closed: ICMP port unreachable says so, silence says nothing.
  if (options.transport == Transport::udp && write(attempt.network.get(), "", 0) < 0) attempt.code = errno;
}

/// Until every attempt of the batch is decided or the time is up. False: told to stop.
Result<bool> decide(std::vector<Attempt>& batch, const NetcatOptions& options) {
  const auto end = Clock::now() + options.connect_timeout.value_or(kPatience);
  const short events = options.transport == Transport::tcp ? POLLOUT : POLLIN;
  while (std::ranges::any_of(batch, [](const Attempt& a) { return a.code < 0; })) {
    std::vector<pollfd> polls{pollfd{options.stop_fd, POLLIN, 0}};
    for (const Attempt& attempt : batch) {
      polls.push_back({attempt.code < 0 ? attempt.network.get() : -1, events, 0});
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
    if (left <= 0) break;
    if (poll(polls.data(), polls.size(), static_cast<int>(left)) < 0 && errno != EINTR) {
      return system_error(errno, "poll", "");
    }
    if (polls.front().revents != 0) return false;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      if (polls[i + 1].revents != 0) batch[i].code = take_error(batch[i].network.get());
    }
  }
  return true;
}

/// Returns how many were open.
std::size_t tell(const std::vector<Attempt>& batch, const NetcatOptions& options) {
  std::size_t open = 0;
  for (const Attempt& attempt : batch) {
    const std::string target = attempt.target.to_string();
    if (attempt.code == 0) {
      ++open;
      std::fputs(fmt::format("{} open\n", target).c_str(), stdout);
    } else if (attempt.code < 0 && options.transport == Transport::udp) {
      ++open;
      std::fputs(fmt::format("{} open or filtered\n", target).c_str(), stdout);
    } else {
      const std::string why = attempt.code < 0 ? "no answer" : system_error(attempt.code, "", "").error().cause;
      options.narrate(fmt::format("{} closed: {}", target, why));
    }
  }
  std::fflush(stdout);
  return open;
}

}  // namespace

Result<Ending> scan(const NetcatOptions& options) {
  const auto addresses = resolve_host(options.host, options.family, options.numeric);
  if (!addresses) return std::unexpected(addresses.error());
  std::vector<Port> ports;
  for (const PortRange& range : options.ports.ranges()) {
    for (std::uint32_t port = range.first.value; port <= range.last.value; ++port) {
      ports.push_back(Port{static_cast<std::uint16_t>(port)});
    }
  }
  std::size_t open = 0;
  for (std::size_t first = 0; first < ports.size(); first += kAtOnce) {
    std::vector<Attempt> batch;
    Status trouble;
    for (std::size_t i = first; i < std::min(first + kAtOnce, ports.size()); ++i) {
      SocketAddress target = addresses->front();
      target.port = ports[i];
      batch.push_back({.target = target, .network = UniqueFd()});
      start(batch.back(), options, trouble);
      if (!trouble) return std::unexpected(trouble.error());
    }
    const auto decided = decide(batch, options);
    if (!decided) return std::unexpected(decided.error());
    if (!*decided) return Ending::stopped;
    open += tell(batch, options);
  }
  if (open == 0) {
    return failure("scan", options.host,
                   fmt::format("none of {} {} ports is open", options.ports.to_string(), to_string(options.transport)));
  }
  return Ending::finished;
}

}  // namespace limpid
