// Field by field, in one order for both sides. Times are those of CLOCK_MONOTONIC, which all processes share.
#include "relay/handover_records.h"

#include <algorithm>
#include <utility>

namespace limpid {
namespace {

constexpr std::size_t kMostNameBytes = 1024;
constexpr std::size_t kMostPathBytes = 8192;  // two of PATH_MAX: a cgroup's, an executable's
constexpr std::size_t kMostContacts = 1024;
constexpr std::size_t kMostDatagramBytes = 65535;

void write_address(RecordWriter& writer, const SocketAddress& address) {
  writer.value(address.family());
  writer.raw(std::as_bytes(std::span(address.address.bytes())));
  writer.number(address.port.value);
  writer.number(address.scope_id);
}

SocketAddress read_address(RecordReader& reader) {
  const auto family = reader.value(Family::ipv6);
  std::array<std::uint8_t, 16> bytes{};
  for (std::uint8_t& byte : bytes) byte = reader.number<std::uint8_t>();
  SocketAddress address{.address = IpAddress::from_bytes(family, bytes), .port = {}};
  address.port.value = reader.number<std::uint16_t>();
  address.scope_id = reader.number<std::uint32_t>();
  return address;
}

void write_facts(RecordWriter& writer, const ClientFacts& facts) {
  writer.number(facts.known.bits);
  writer.text(facts.interface);
  writer.number(facts.dscp);
  writer.number(facts.mac.has_value());
  if (facts.mac) writer.raw(std::as_bytes(std::span(*facts.mac)));
  writer.number(facts.user.has_value());
  writer.number(facts.user.value_or(0));
  writer.text(facts.cgroup);
  writer.number(facts.process.has_value());
  if (!facts.process) return;
  writer.number(facts.process->group);
  writer.text(facts.process->executable);
}

ClientFacts read_facts(RecordReader& reader) {
  ClientFacts facts;
  facts.known.bits = reader.number<std::uint8_t>();
  facts.interface = reader.text(kMostNameBytes);
  facts.dscp = reader.number<std::uint8_t>();
  if (reader.number<bool>()) {
    facts.mac.emplace();
    for (std::uint8_t& byte : *facts.mac) byte = reader.number<std::uint8_t>();
  }
  const bool has_user = reader.number<bool>();
  const auto user = reader.number<std::uint32_t>();
  if (has_user) facts.user = user;
  facts.cgroup = reader.text(kMostPathBytes);
  if (reader.number<bool>()) {
    facts.process.emplace();
    facts.process->group = reader.number<std::uint32_t>();
    facts.process->executable = reader.text(kMostPathBytes);
  }
  return facts;
}

void write_verdict_ruling(RecordWriter& writer, const Ruling& ruling) {
  writer.number(ruling.rule);
  writer.value(ruling.protocol);
  writer.number(ruling.asked);
  writer.number(ruling.sniffed);
  writer.number(ruling.ech);
  writer.number(ruling.learnt != nullptr);
  if (!ruling.learnt) return;
  writer.text(ruling.learnt->name);
  writer.value(ruling.learnt->name_source);
  write_facts(writer, ruling.learnt->client);
}

Ruling read_verdict_ruling(RecordReader& reader) {
  Ruling ruling;
  ruling.rule = reader.number<std::uint32_t>();
  ruling.protocol = reader.value(AppProtocol::dns);
  ruling.asked = reader.number<bool>();
  ruling.sniffed = reader.number<bool>();
  ruling.ech = reader.number<bool>();
  if (!reader.number<bool>()) return ruling;
  auto learnt = std::make_shared<Learnt>();
  learnt->name = reader.text(kMostNameBytes);
  learnt->name_source = reader.value(NameSource::dns_hint);
  learnt->client = read_facts(reader);
  ruling.learnt = std::move(learnt);
  return ruling;
}

void write_upstream(RecordWriter& writer, const UpstreamGroup* group, std::optional<unsigned> member, bool direct) {
  writer.text(group != nullptr ? group->options().name : std::string_view());
  if (group == nullptr) return;
  writer.text(member ? group->member(*member).name : std::string_view());
  writer.number(direct);
}

HandedUpstream read_upstream(RecordReader& reader) {
  HandedUpstream upstream;
  upstream.group = reader.text(kMostNameBytes);
  if (upstream.group.empty()) return upstream;
  upstream.member = reader.text(kMostNameBytes);
  upstream.direct = reader.number<bool>();
  return upstream;
}

/// A bit for each flag of a leg.
std::uint8_t bits_of(const Leg& leg) noexcept {
  unsigned bits = 0;
  for (const bool flag : {leg.readable, leg.writable, leg.hangup, leg.urgent, leg.reset})
    bits = bits << 1U | (flag ? 1U : 0U);
  return static_cast<std::uint8_t>(bits);
}

void set_bits(Leg& leg, unsigned bits) noexcept {
  leg.readable = (bits & 16U) != 0;
  leg.writable = (bits & 8U) != 0;
  leg.hangup = (bits & 4U) != 0;
  leg.urgent = (bits & 2U) != 0;
  leg.reset = (bits & 1U) != 0;
}

void write_direction(RecordWriter& writer, const Direction& direction) {
  writer.number(direction.bytes);
  writer.number(direction.held_end - direction.held_begin);
  writer.number(direction.pipe.valid());
  writer.number(direction.piped);
  writer.number(direction.burst);
  writer.value(direction.source_end);
  writer.number(direction.done);
}

void read_direction(RecordReader& reader, Direction& direction, std::uint32_t& held, bool& has_pipe) {
  direction.bytes = reader.number<std::uint64_t>();
  held = reader.number<std::uint32_t>();
  has_pipe = reader.number<bool>();
  direction.piped = reader.number<std::uint32_t>();
  direction.burst = reader.number<std::uint32_t>();
  direction.source_end = reader.value(SourceEnd::failed);
  direction.done = reader.number<bool>();
  reader.require(held <= BufferPool::kLargestBytes);
  // A pipe may have been made larger than asked for, but not without bound: fs.pipe-max-size is 1 MiB unless root says more.
  constexpr std::uint32_t kMostPiped = std::uint32_t{1} << 30U;
  reader.require(direction.piped <= kMostPiped && (has_pipe || direction.piped == 0));
  reader.require(direction.burst <= kSpliceAfterBytes);
}

bool makes_sense(const HandedFlow& handed) noexcept {
  const Flow& flow = handed.flow;
  switch (flow.state) {
    case FlowState::introducing:
    case FlowState::deciding:
    case FlowState::ignoring:
      return handed.has_client && !handed.has_target && !handed.has_pipe_up && !handed.has_pipe_down &&
             handed.held_up == 0 && handed.held_down == 0;
    case FlowState::connecting:
    case FlowState::relaying: return handed.has_client && handed.has_target;
    case FlowState::lingering: return handed.has_client || handed.has_target;
    case FlowState::resolving:
    case FlowState::handshaking:
    case FlowState::leaving: return false;
  }
  return false;
}

void write_leg_options(RecordWriter& writer, const LegOptions* leg) {
  writer.number(leg != nullptr);
  if (leg == nullptr) return;
  writer.number(leg->mark);
  writer.text(leg->interface);
  for (const auto& source : {leg->source_ipv4, leg->source_ipv6}) {
    writer.number(source.has_value());
    if (source) write_address(writer, {.address = *source, .port = {}});
  }
  writer.number(leg->by_name);
}

std::shared_ptr<const LegOptions> read_leg_options(RecordReader& reader) {
  if (!reader.number<bool>()) return nullptr;
  auto leg = std::make_shared<LegOptions>();
  leg->mark = reader.number<std::uint32_t>();
  leg->interface = reader.text(kMostNameBytes);
  for (auto* const source : {&leg->source_ipv4, &leg->source_ipv6}) {
    if (reader.number<bool>()) *source = read_address(reader).address;
  }
  leg->by_name = reader.number<bool>();
  return leg;
}

}  // namespace

bool goes_on_elsewhere(const Flow& flow) noexcept {
  switch (flow.state) {
    case FlowState::ignoring:
    case FlowState::relaying:
    case FlowState::lingering: return true;
    // Whoever is on the way to an upstream begins anew: nothing of the client's has been said to anybody.
    case FlowState::connecting: return flow.upstream == nullptr;
    case FlowState::introducing:
    case FlowState::deciding:
    case FlowState::resolving:
    case FlowState::handshaking:
    case FlowState::leaving: return false;
  }
  return false;
}

void write_flow(RecordWriter& writer, const Flow& flow, std::vector<int>& descriptors) {
  const bool whole = goes_on_elsewhere(flow);
  writer.value(whole || flow.state == FlowState::introducing ? flow.state : FlowState::deciding);
  write_address(writer, flow.client_address);
  write_address(writer, flow.original_destination);
  writer.number(flow.started_ms);
  writer.number(flow.last_activity_ms);
  writer.number(flow.give_up_ms);
  write_verdict_ruling(writer, flow.ruling);
  writer.number(flow.client.fd.valid());
  if (flow.client.fd.valid()) descriptors.push_back(flow.client.fd.get());
  writer.number(whole && flow.target.fd.valid());
  if (!whole) return;
  if (flow.target.fd.valid()) descriptors.push_back(flow.target.fd.get());
  writer.number(bits_of(flow.client));
  writer.number(bits_of(flow.target));
  write_address(writer, flow.target_address);
  for (const Direction* direction : {&flow.up, &flow.down}) {
    write_direction(writer, *direction);
    if (!direction->pipe.valid()) continue;
    descriptors.push_back(direction->pipe.read_end.get());
    descriptors.push_back(direction->pipe.write_end.get());
  }
  writer.value(flow.end);
  writer.value(flow.source);
  writer.number(flow.queued);
  writer.number(flow.held);
  writer.number(flow.movable);
  writer.number(flow.routed_otherwise);
  writer.number(flow.offload_attempts);
  writer.number(flow.silent_attempts);
  writer.number(flow.attempts);
  writer.number(flow.dialled_us);
  writer.number(flow.sent_with_syn);
  writer.number(flow.unacknowledged);
  writer.number(flow.linger_delay_ms);
  const UpstreamRoute* const route = flow.upstream.get();
  write_upstream(writer, route != nullptr ? &route->group : nullptr, route != nullptr ? route->member : std::nullopt,
                 route != nullptr && route->direct);
}

std::optional<HandedFlow> read_flow(RecordReader& reader) {
  HandedFlow handed;
  Flow& flow = handed.flow;
  flow.state = reader.value(FlowState::leaving);
  flow.client_address = read_address(reader);
  flow.original_destination = read_address(reader);
  flow.started_ms = reader.number<std::uint64_t>();
  flow.last_activity_ms = reader.number<std::uint64_t>();
  flow.give_up_ms = reader.number<std::uint64_t>();
  flow.ruling = read_verdict_ruling(reader);
  handed.has_client = reader.number<bool>();
  handed.has_target = reader.number<bool>();
  if (flow.state == FlowState::introducing || flow.state == FlowState::deciding) {
    return reader.ok() && makes_sense(handed) ? std::optional(std::move(handed)) : std::nullopt;
  }
  set_bits(flow.client, reader.number<std::uint8_t>());
  set_bits(flow.target, reader.number<std::uint8_t>());
  flow.target_address = read_address(reader);
  read_direction(reader, flow.up, handed.held_up, handed.has_pipe_up);
  read_direction(reader, flow.down, handed.held_down, handed.has_pipe_down);
  flow.end = reader.value(FlowEnd::error);
  flow.source = reader.value(SourceMode::prefer_port);
  flow.queued = reader.number<bool>();
  flow.held = reader.number<bool>();
  flow.movable = reader.number<bool>();
  flow.routed_otherwise = reader.number<bool>();
  flow.offload_attempts = reader.number<std::uint8_t>();
  flow.silent_attempts = reader.number<std::uint8_t>();
  flow.attempts = reader.number<std::uint32_t>();
  flow.dialled_us = reader.number<std::uint32_t>();
  flow.sent_with_syn = reader.number<std::uint16_t>();
  flow.unacknowledged = reader.number<std::uint32_t>();
  flow.linger_delay_ms = reader.number<std::uint32_t>();
  handed.upstream = read_upstream(reader);
  if (!reader.ok() || !makes_sense(handed)) return std::nullopt;
  return handed;
}

bool goes_on_elsewhere(const UdpSession& session) noexcept {
  return !session.spent && (!session.association || (!session.association->handshake && session.association->relay));
}

void write_session(RecordWriter& writer, const UdpSession& session, std::vector<int>& descriptors) {
  descriptors.push_back(session.fd.get());
  for (const SocketAddress* address : {&session.key.client, &session.key.destination, &session.original_destination,
                                       &session.target, &session.exchange.partner})
    write_address(writer, *address);
  for (const std::uint64_t number :
       {session.bytes_up, session.bytes_down, session.started_ms, session.last_activity_ms})
    writer.number(number);
  writer.number(static_cast<std::uint32_t>(session.contacted.size()));
  for (const SocketAddress& each : session.contacted) write_address(writer, each);
  writer.number(session.exchange.datagrams);
  for (const bool flag : {session.exchange.asked, session.exchange.answered, session.answered, session.mixed,
                          session.routed_otherwise, session.stays, session.cut, session.counted, session.fixed_target})
    writer.number(flag);
  writer.value(session.source);
  write_verdict_ruling(writer, session.ruling);
  const UdpAssociation* const association = session.association.get();
  writer.number(association != nullptr);
  if (association == nullptr) return;
  descriptors.push_back(association->control.get());
  write_upstream(writer, &association->group, association->member, false);
  write_address(writer, association->server);
  write_address(writer, *association->relay);
  writer.text(association->name);
}

std::optional<HandedSession> read_session(RecordReader& reader) {
  HandedSession handed;
  UdpSession& session = handed.session;
  for (SocketAddress* address : {&session.key.client, &session.key.destination, &session.original_destination,
                                 &session.target, &session.exchange.partner})
    *address = read_address(reader);
  for (std::uint64_t* number : {&session.bytes_up, &session.bytes_down, &session.started_ms, &session.last_activity_ms})
    *number = reader.number<std::uint64_t>();
  const auto contacts = reader.number<std::uint32_t>();
  reader.require(contacts <= kMostContacts);
  for (std::uint32_t i = 0; reader.ok() && i < contacts; ++i) session.contacted.push_back(read_address(reader));
  session.exchange.datagrams = reader.number<std::uint16_t>();
  for (bool* flag : {&session.exchange.asked, &session.exchange.answered, &session.answered, &session.mixed,
                     &session.routed_otherwise, &session.stays, &session.cut, &session.counted, &session.fixed_target})
    *flag = reader.number<bool>();
  session.source = reader.value(SourceMode::prefer_port);
  session.ruling = read_verdict_ruling(reader);
  if (reader.number<bool>()) {
    HandedAssociation association;
    association.upstream = read_upstream(reader);
    association.server = read_address(reader);
    association.relay = read_address(reader);
    association.name = reader.text(kMostNameBytes);
    reader.require(!association.upstream.member.empty());
    handed.association = std::move(association);
  }
  if (!reader.ok()) return std::nullopt;
  return handed;
}

bool is_decided(const UdpRuling& ruling) noexcept {
  return ruling.state == UdpRuling::State::decided || ruling.state == UdpRuling::State::each_by_itself;
}

void write_ruling(RecordWriter& writer, const UdpSession& entry, const UpstreamGroups* groups) {
  const UdpRuling& ruling = *entry.decided;
  write_address(writer, entry.key.client);
  write_address(writer, entry.key.destination);
  writer.number(entry.last_activity_ms);
  writer.number(entry.answered);
  writer.number(ruling.state == UdpRuling::State::each_by_itself);
  writer.number(ruling.origin.interface);
  writer.number(ruling.origin.traffic_class);
  writer.number(ruling.void_from_ms);
  const FlowVerdict& verdict = ruling.verdict;
  writer.value(verdict.action);
  writer.value(verdict.refusal);
  writer.number(verdict.fixed_target);
  writer.number(verdict.by_name);
  writer.number(verdict.own_session);
  write_address(writer, verdict.dial.target);
  writer.value(verdict.dial.source);
  writer.number(verdict.dial.source_family_differs);
  const bool grouped = groups != nullptr && verdict.dial.upstream != 0;
  writer.text(grouped ? groups->at(verdict.dial.upstream).options().name : std::string_view());
  write_leg_options(writer, verdict.dial.leg.get());
  write_verdict_ruling(writer, verdict.ruling);
}

std::optional<HandedRuling> read_ruling(RecordReader& reader) {
  HandedRuling handed;
  handed.key.client = read_address(reader);
  handed.key.destination = read_address(reader);
  handed.last_activity_ms = reader.number<std::uint64_t>();
  handed.answered = reader.number<bool>();
  handed.ruling = std::make_unique<UdpRuling>();
  UdpRuling& ruling = *handed.ruling;
  ruling.state = reader.number<bool>() ? UdpRuling::State::each_by_itself : UdpRuling::State::decided;
  ruling.origin.interface = reader.number<std::uint32_t>();
  ruling.origin.traffic_class = reader.number<std::uint8_t>();
  ruling.void_from_ms = reader.number<std::uint64_t>();
  FlowVerdict& verdict = ruling.verdict;
  verdict.action = reader.value(FlowVerdict::Action::look);
  verdict.refusal = reader.value(Refusal::unresolved_name);
  verdict.fixed_target = reader.number<bool>();
  verdict.by_name = reader.number<bool>();
  verdict.own_session = reader.number<bool>();
  verdict.dial.target = read_address(reader);
  verdict.dial.source = reader.value(SourceMode::prefer_port);
  verdict.dial.source_family_differs = reader.number<bool>();
  handed.upstream = reader.text(kMostNameBytes);
  verdict.dial.leg = read_leg_options(reader);
  verdict.ruling = read_verdict_ruling(reader);
  if (!reader.ok()) return std::nullopt;
  return handed;
}

void write_datagram(RecordWriter& writer, const UdpSession& entry, const HeldDatagram& held) {
  write_address(writer, entry.key.client);
  write_address(writer, entry.key.destination);
  writer.number(entry.decided->origin.interface);
  writer.number(held.fields.ttl);
  writer.number(held.fields.traffic_class);
  writer.bytes(held.payload);
}

std::optional<HandedDatagram> read_datagram(RecordReader& reader) {
  HandedDatagram handed;
  handed.key.client = read_address(reader);
  handed.key.destination = read_address(reader);
  handed.interface = reader.number<std::uint32_t>();
  handed.held.fields.ttl = reader.number<std::uint8_t>();
  handed.held.fields.traffic_class = reader.number<std::uint8_t>();
  const auto payload = reader.bytes(kMostDatagramBytes);
  if (!reader.ok()) return std::nullopt;
  handed.held.payload = {payload.begin(), payload.end()};
  return handed;
}

}  // namespace limpid
