// See cut_values.h. Network byte order begins here: addresses and ports of the maps are as packets have them, numbers in them as this host does.
// Whatever the programs could not translate is refused here, so that they need not ask.
#include "cutthrough/cut_values.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>

namespace limpid {
namespace {

constexpr unsigned kTcp = 6;
constexpr unsigned kUdp = 17;
constexpr unsigned kMostScale = 14;  // RFC 7323 section 2.3

void put_address(std::uint32_t (&words)[4], const IpAddress& address) {
  std::array<std::uint8_t, 16> bytes{};
  if (address.family() == Family::ipv4) {
    bytes[10] = bytes[11] = 0xff;
    std::copy_n(address.bytes().begin(), 4, bytes.begin() + 12);
  } else {
    bytes = address.bytes();
  }
  std::memcpy(words, bytes.data(), bytes.size());
}

SocketAddress read_address(const std::uint32_t (&words)[4], std::uint16_t port) {
  std::array<std::uint8_t, 16> bytes{};
  std::memcpy(bytes.data(), words, bytes.size());
  return {.address = IpAddress::from_bytes(Family::ipv6, bytes).unmapped(), .port = Port{ntohs(port)}};
}

std::unexpected<Error> refused(int code, const CutThroughFlow& flow, std::string_view cause) {
  return std::unexpected(Error{.kind = ErrorKind::failure,
                               .code = code,
                               .operation = "cut through",
                               .object = flow.up.from.to_string() + " to " + flow.up.new_to.to_string(),
                               .cause = std::string(cause),
                               .remedy = {}});
}

limpid_cut_way make_way(const CutThroughWay& way) {
  limpid_cut_way made{};
  made.from = tuple_of(way.from, way.to);
  made.to = tuple_of(way.new_from, way.new_to);
  made.seq_delta = way.seq_delta;
  made.clock = way.clock;
  made.rcv_nxt = way.rcv_nxt;
  made.right_edge = way.right_edge;
  made.write_seq = way.write_seq;
  made.peer_scale = way.peer_scale;
  made.our_scale = way.our_scale;
  made.edge = way.rcv_nxt;
  made.last_ack = way.write_seq;
  made.limit = way.right_edge;
  return made;
}

std::uint64_t bytes_of(const limpid_cut_flow& flow, int direction) {
  const limpid_cut_way& way = flow.ways[direction];
  return flow.bytes_before[direction] + (way.edge - way.rcv_nxt);
}

}  // namespace

CutClock CutClock::now() noexcept {
  timespec monotonic{};
  timespec wall{};
  ::clock_gettime(CLOCK_MONOTONIC, &monotonic);
  ::clock_gettime(CLOCK_REALTIME, &wall);
  CutClock clock;
  clock.monotonic_ns =
      static_cast<std::uint64_t>(monotonic.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(monotonic.tv_nsec);
  clock.wall_us = static_cast<std::int64_t>(wall.tv_sec) * 1'000'000 + wall.tv_nsec / 1000;
  return clock;
}

bool can_be_forwarded(const SocketAddress& address) noexcept {
  const IpAddress& ip = address.address;
  return address.port.value != 0 && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() &&
         !ip.is_link_local() && !ip.is_broadcast();
}

limpid_cut_tuple tuple_of(const SocketAddress& source, const SocketAddress& destination, Transport transport) {
  limpid_cut_tuple tuple{};
  put_address(tuple.source, source.address);
  put_address(tuple.destination, destination.address);
  tuple.source_port = htons(source.port.value);
  tuple.destination_port = htons(destination.port.value);
  tuple.protocol = transport == Transport::tcp ? kTcp : kUdp;
  return tuple;
}

SocketAddress source_of(const limpid_cut_tuple& tuple) {
  return read_address(tuple.source, tuple.source_port);
}

SocketAddress destination_of(const limpid_cut_tuple& tuple) {
  return read_address(tuple.destination, tuple.destination_port);
}

Result<limpid_cut_flow> make_flow(const CutThroughFlow& flow, const CutClock& now) {
  const CutThroughWay& up = flow.up;
  const CutThroughWay& down = flow.down;
  for (const SocketAddress& address : {up.from, up.to, up.new_from, up.new_to}) {
    if (address.family() != up.from.family()) return refused(EAFNOSUPPORT, flow, "its legs are of two families");
    if (!can_be_forwarded(address)) return refused(EINVAL, flow, address.to_string() + " is nowhere to forward to");
  }
  if (down.from != up.new_to || down.to != up.new_from || down.new_from != up.to || down.new_to != up.from)
    return refused(EINVAL, flow, "the two directions do not answer each other");
  for (const unsigned scale : {up.peer_scale, up.our_scale, down.peer_scale, down.our_scale}) {
    if (scale > kMostScale) return refused(EINVAL, flow, "a window scale above 14");
  }
  limpid_cut_flow made{};
  made.ways[LIMPID_CUT_UP] = make_way(up);
  made.ways[LIMPID_CUT_DOWN] = make_way(down);
  made.flipped_ns = now.monotonic_ns;
  made.last_ns = now.monotonic_ns;
  made.timestamps = flow.timestamps;
  made.sack = flow.sack;
  made.source = flow.facts.source;
  made.dialled = tuple_of(flow.facts.client, flow.facts.original_destination);
  put_address(made.target, flow.facts.target.address);
  made.target_port = htons(flow.facts.target.port.value);
  made.bytes_before[LIMPID_CUT_UP] = flow.facts.bytes_up;
  made.bytes_before[LIMPID_CUT_DOWN] = flow.facts.bytes_down;
  made.started_us = flow.facts.started_us;
  return made;
}

std::uint32_t finished_ways(const limpid_cut_flow& flow, const limpid_cut_entry& entry) noexcept {
  constexpr std::uint32_t kBoth = LIMPID_CUT_FIN_ACKED(LIMPID_CUT_UP) | LIMPID_CUT_FIN_ACKED(LIMPID_CUT_DOWN);
  return (flow.happened | LIMPID_CUT_FIN_ACKED(0) * (entry.finished & 3U)) & kBoth;
}

CutThroughState state_of(const limpid_cut_flow& flow, const limpid_cut_entry& entry, const CutClock& now) {
  constexpr std::uint32_t kBoth = LIMPID_CUT_FIN_ACKED(LIMPID_CUT_UP) | LIMPID_CUT_FIN_ACKED(LIMPID_CUT_DOWN);
  CutThroughState state;
  switch (entry.phase) {
    case LIMPID_CUT_DRAINING: state.phase = CutThroughPhase::draining; break;
    case LIMPID_CUT_LINGERING: state.phase = CutThroughPhase::lingering; break;
    case LIMPID_CUT_RESETTING: state.phase = CutThroughPhase::resetting; break;
    default: state.phase = CutThroughPhase::alone; break;
  }
  state.bytes_up = bytes_of(flow, LIMPID_CUT_UP);
  state.bytes_down = bytes_of(flow, LIMPID_CUT_DOWN);
  state.packets_up = flow.ways[LIMPID_CUT_UP].packets;
  state.packets_down = flow.ways[LIMPID_CUT_DOWN].packets;
  const std::uint32_t finished = finished_ways(flow, entry);
  state.client_finished =
      ((flow.happened & LIMPID_CUT_FIN(LIMPID_CUT_UP)) | (finished & LIMPID_CUT_FIN_ACKED(LIMPID_CUT_UP))) != 0;
  state.target_finished =
      ((flow.happened & LIMPID_CUT_FIN(LIMPID_CUT_DOWN)) | (finished & LIMPID_CUT_FIN_ACKED(LIMPID_CUT_DOWN))) != 0;
  state.closed = finished == kBoth;
  state.client_reset = (flow.happened & LIMPID_CUT_RST(LIMPID_CUT_UP)) != 0;
  state.target_reset = (flow.happened & (LIMPID_CUT_RST(LIMPID_CUT_DOWN) | LIMPID_CUT_REPLACED)) != 0;
  state.idle = std::chrono::nanoseconds(now.monotonic_ns > flow.last_ns ? now.monotonic_ns - flow.last_ns : 0);
  return state;
}

CutThroughRecord record_of(CutThroughId id, const limpid_cut_flow& flow, CutThroughEnd end, const CutClock& now) {
  CutThroughRecord record;
  record.id = id;
  record.facts.client = source_of(flow.dialled);
  record.facts.original_destination = destination_of(flow.dialled);
  record.facts.target = read_address(flow.target, flow.target_port);
  record.target_local = source_of(flow.ways[LIMPID_CUT_UP].to);
  record.target_remote = destination_of(flow.ways[LIMPID_CUT_UP].to);
  record.facts.bytes_up = bytes_of(flow, LIMPID_CUT_UP);
  record.facts.bytes_down = bytes_of(flow, LIMPID_CUT_DOWN);
  record.facts.started_us = flow.started_us;
  record.facts.source = flow.source;
  record.end = end;
  const std::uint64_t idle_ns = now.monotonic_ns > flow.last_ns ? now.monotonic_ns - flow.last_ns : 0;
  record.duration_us =
      std::max<std::int64_t>(0, now.wall_us - static_cast<std::int64_t>(idle_ns / 1000) - flow.started_us);
  return record;
}

}  // namespace limpid
