// Clients that somebody else introduces: connections from trusted networks begin with a PROXY protocol header, and the client that it names is the
// one who is served. Part of Worker.
//
// State: introducing. The header is looked at in the client's socket and taken out of it only when it is complete, so nothing of it has to
// be kept; at most ProxyReader::kMostBytes are looked at.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "relay/flow_end.h"
#include "relay/worker.h"
#include "upstream/proxy_reader.h"

namespace limpid {

bool Worker::is_introducer(const IpAddress& address) const noexcept {
  return std::ranges::any_of(options_.introducers, [&](const Prefix& network) { return network.contains(address); });
}

/// A flow that has only a client so far. nullptr when it could not be made; then it is over.
Flow* Worker::begin_with_client(Accepted accepted, const SocketAddress& original_destination, FlowId& id) {
  Flow* flow = flows_.create(id);
  if (flow == nullptr) {
    refuse(std::move(accepted), original_destination, FlowEnd::error);
    return nullptr;
  }
  flow->client.fd = std::move(accepted.fd);
  flow->client_address = accepted.client;
  flow->original_destination = original_destination;
  flow->started_ms = flow->last_activity_ms = now_ms_;
  flow->state = FlowState::introducing;
  if (watch(*flow, id, false)) return flow;
  end_flow(*flow, id, FlowEnd::error, Closing::with_reset);
  return nullptr;
}

void Worker::await_introduction(Accepted accepted, const SocketAddress& original_destination) {
  FlowId id;
  Flow* flow = begin_with_client(std::move(accepted), original_destination, id);
  if (flow == nullptr) return;
  flow->give_up_ms = now_ms_ + static_cast<std::uint64_t>(options_.timeouts.connect.count());
  timers_.schedule(id.index, flow->give_up_ms);
}

void Worker::read_introduction(Flow& flow, FlowId id) {
  std::array<std::byte, ProxyReader::kMostBytes> bytes;
  const int fd = flow.client.fd.get();
  const ssize_t there = recv(fd, bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
  if (there < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (there <= 0) return end_flow(flow, id, FlowEnd::client_reset, Closing::with_reset);
  ProxyReader reader;
  const std::size_t taken = reader.take(std::span(bytes).first(static_cast<std::size_t>(there)));
  // Behind the end of what it says, nothing more will make it complete.
  const bool ended = flow.client.hangup && reader.state() == ProxyReader::State::running;
  if (reader.state() == ProxyReader::State::malformed || ended) {
    return end_flow(flow, id, FlowEnd::refused_proxy_header, Closing::with_reset);
  }
  if (reader.state() == ProxyReader::State::running) return;
  if (!discard_sent(fd, static_cast<std::uint16_t>(taken))) {
    return end_flow(flow, id, FlowEnd::client_reset, Closing::with_reset);
  }
  if (reader.client()) {
    const auto& address = reader.client()->address;
    if (address.is_unspecified() || address.is_multicast() || address.is_broadcast()) {
      return end_flow(flow, id, FlowEnd::refused_proxy_header, Closing::with_reset);
    }
    flow.client_address = *reader.client();
  }
  begin_deciding(flow, id);
}

}  // namespace limpid
