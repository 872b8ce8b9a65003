// One port for both families and every worker.
#include "service/listeners.h"

#include <sys/socket.h>

#include <cerrno>

#include "limpid/datagram.h"
#include "net/endpoint.h"
#include "net/port_owner.h"
#include "net/reuseport.h"
#include "net/tcp_socket.h"

namespace limpid {
namespace {

/// How often a port that the kernel chose for IPv4 may turn out to be taken for IPv6.
constexpr int kAttempts = 16;

std::vector<SocketAddress> wanted_addresses(const ListenerRequest& request) {
  auto wanted = request.addresses;
  if (wanted.empty()) {
    if (request.ipv4) wanted.push_back({.address = IpAddress::loopback(Family::ipv4), .port = {}});
    if (request.ipv6) wanted.push_back({.address = IpAddress::loopback(Family::ipv6), .port = {}});
  }
  return wanted;
}

/// One listening socket of one kind on `address`.
Result<UniqueFd> open_one(const SocketAddress& address, const ListenerRequest& request, bool reuse_port,
                          Protocol protocol) {
  if (protocol == Protocol::udp)
    return listen_datagrams(address, {.reuse_port = reuse_port, .mark = request.socket.mark});
  auto options = request.socket;
  options.reuse_port = reuse_port;
  return request.transparent ? listen_transparent(address, options) : listen_ordinary(address, options);
}

/// SO_REUSEPORT would let us join a group of somebody else's listeners (of the same user) without a word, so a first
/// socket without it finds out whether the port is free. Fills in the port that the kernel chose where it is 0.
Status probe(SocketAddress& address, const ListenerRequest& request, Protocol protocol) {
  const auto fd = open_one(address, request, /*reuse_port=*/false, protocol);
  if (!fd) return std::unexpected(fd.error());
  const auto bound = original_destination(fd->get());
  if (!bound) return std::unexpected(bound.error());
  address.port = bound->port;
  return {};
}

Status open_for_worker(const Listeners& listeners, const ListenerRequest& request, Protocol protocol,
                       std::vector<UniqueFd>& own) {
  for (const auto& address : listeners.addresses) {
    auto fd = open_one(address, request, request.workers > 1, protocol);
    if (!fd) return std::unexpected(fd.error());
    own.push_back(std::move(*fd));
  }
  return {};
}

/// `tried` says, after a failure, which kind of socket it was.
Result<Listeners> open_on(const ListenerRequest& request, Port port, Protocol& tried) {
  Listeners listeners{.port = port, .addresses = {}, .per_worker = {}};
  std::vector<Protocol> protocols;
  if (request.tcp) protocols.push_back(Protocol::tcp);
  if (request.udp) protocols.push_back(Protocol::udp);
  for (SocketAddress address : wanted_addresses(request)) {
    address.port = listeners.port;
    for (const Protocol protocol : protocols) {
      tried = protocol;
      if (auto probed = probe(address, request, protocol); !probed) return std::unexpected(probed.error());
    }
    listeners.port = address.port;
    listeners.addresses.push_back(address);
  }
  listeners.per_worker.resize(request.workers);
  for (auto& own : listeners.per_worker) {
    for (const Protocol protocol : protocols) {
      tried = protocol;
      auto opened = open_for_worker(listeners, request, protocol, protocol == Protocol::tcp ? own.tcp : own.udp);
      if (!opened) return std::unexpected(opened.error());
    }
  }
  if (!request.spread_by_client || request.workers < 2) return listeners;
  const auto& first = listeners.per_worker.front().udp;
  for (std::size_t i = 0; i < first.size(); ++i) {
    if (auto spread = spread_by_client(first[i].get(), listeners.addresses[i].family(), request.workers); !spread)
      return std::unexpected(spread.error());
  }
  return listeners;
}

}  // namespace

Result<Listeners> open_listeners(const ListenerRequest& request) {
  for (int attempt = 1;; ++attempt) {
    Protocol tried{};
    auto listeners = open_on(request, request.port, tried);
    if (!listeners && listeners.error().code == EADDRNOTAVAIL) listeners.error().remedy = request.absent_remedy;
    if (listeners || listeners.error().code != EADDRINUSE) return listeners;
    if (request.port.value == 0 && attempt < kAttempts) continue;
    const auto transport = tried == Protocol::tcp ? Transport::tcp : Transport::udp;
    return port_in_use(transport, request.port, request.busy_remedy);
  }
}

Result<unsigned> count_workers(unsigned wanted, unsigned cpus, bool takes_several) {
  if (takes_several) return wanted != 0 ? wanted : cpus;
  if (wanted <= 1) return 1;
  return unsupported(
      "--workers", std::to_string(wanted),
      "with --backend ebpf, this kernel hands connections to a single listener only (Linux 6.6 can do more)",
      "--workers 1, or another backend");
}

Result<Port> find_free_port() {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_storage native{};
  const auto length = SocketAddress{.address = IpAddress::loopback(Family::ipv4), .port = {}}.to_native(native);
  if (!fd.valid() || bind(fd.get(), reinterpret_cast<const sockaddr*>(&native), length) != 0) {
    return system_error(errno, "find a free port", "");
  }
  const auto bound = original_destination(fd.get());
  if (!bound) return std::unexpected(bound.error());
  return bound->port;
}

}  // namespace limpid
