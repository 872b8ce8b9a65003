// nf_tables' trace messages (net/netfilter/nf_tables_trace.c). They come from the kernel, but quote what strangers sent: lengths are
// checked before anything is read.
#include "net/nft_trace.h"

#include <endian.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "net/netlink_message.h"

namespace limpid {
namespace {

constexpr std::uint8_t kTcp = 6;  // linux/netfilter.h and netinet/in.h cannot both be had
constexpr std::uint8_t kUdp = 17;
constexpr std::size_t kReceiveBytes = 64UL * 1024;
constexpr std::size_t kMostAtOnce = 16384;
/// Some 200 bytes each: room for a packet that passes a thousand rules, several times over.
constexpr int kSocketBufferBytes = 4 << 20;
/// NFTA_TRACE_CT_STATE, kernel 6.16; not in the headers of Debian 12.
constexpr std::uint16_t kTraceConnectionState = 21;

std::uint32_t get32(std::span<const std::uint8_t> bytes, std::size_t at) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.subspan(at, sizeof value).data(), sizeof value);
  return be32toh(value);
}
std::uint16_t get16(std::span<const std::uint8_t> bytes, std::size_t at) {
  return static_cast<std::uint16_t>((bytes[at] << 8U) | bytes[at + 1]);
}

std::string family_name(unsigned native) {
  switch (native) {
    case NFPROTO_INET: return "inet";
    case NFPROTO_IPV4: return "ip";
    case NFPROTO_ARP: return "arp";
    case NFPROTO_NETDEV: return "netdev";
    case NFPROTO_BRIDGE: return "bridge";
    case NFPROTO_IPV6: return "ip6";
    default: return "";
  }
}

std::span<const std::uint8_t> payload_of(const nlattr* attribute) {
  if (attribute == nullptr) return {};
  return {static_cast<const std::uint8_t*>(mnl_attr_get_payload(attribute)), mnl_attr_get_payload_len(attribute)};
}

std::optional<std::uint32_t> read_be32(const nlattr* attribute) {
  const auto bytes = payload_of(attribute);
  if (bytes.size() != sizeof(std::uint32_t)) return std::nullopt;
  return get32(bytes, 0);
}

TraceVerdict verdict_of(std::int32_t code) {
  switch (code) {
    case NFT_CONTINUE: return TraceVerdict::go_on;
    case NFT_JUMP: return TraceVerdict::jump;
    case NFT_GOTO: return TraceVerdict::go_to;
    case NFT_RETURN: return TraceVerdict::leave;
    default: break;
  }
  // The upper half is the queue's number, or the errno of a drop (NF_VERDICT_MASK, linux/netfilter.h).
  switch (static_cast<std::uint32_t>(code) & 0xffU) {
    case NF_ACCEPT: return TraceVerdict::accept;
    case NF_DROP: return TraceVerdict::drop;
    case NF_STOLEN: return TraceVerdict::stolen;
    case NF_QUEUE: return TraceVerdict::queue;
    default: return TraceVerdict::other;
  }
}

struct NestedVerdict {
  std::optional<std::int32_t> code;
  std::string chain;
};

NestedVerdict read_verdict(const nlattr* nest) {
  NestedVerdict verdict;
  if (nest == nullptr) return verdict;
  struct Found {
    std::array<const nlattr*, NFTA_VERDICT_CHAIN + 1> attributes{};
  } found;
  mnl_attr_parse_nested(
      nest,
      [](const nlattr* attribute, void* data) {
        if (mnl_attr_get_type(attribute) <= NFTA_VERDICT_CHAIN)
          static_cast<Found*>(data)->attributes[mnl_attr_get_type(attribute)] = attribute;
        return MNL_CB_OK;
      },
      &found);
  if (const auto code = read_be32(found.attributes[NFTA_VERDICT_CODE])) verdict.code = static_cast<std::int32_t>(*code);
  const nlattr* chain = found.attributes[NFTA_VERDICT_CHAIN];
  if (chain != nullptr && mnl_attr_validate(chain, MNL_TYPE_NUL_STRING) >= 0) verdict.chain = mnl_attr_get_str(chain);
  return verdict;
}

IpAddress read_address(Family family, std::span<const std::uint8_t> bytes) {
  std::array<std::uint8_t, 16> address{};
  std::memcpy(address.data(), bytes.data(), family == Family::ipv4 ? 4 : 16);
  return IpAddress::from_bytes(family, address);
}

void read_transport(std::span<const std::uint8_t> header, TracedPacket& packet) {
  if ((packet.protocol != kTcp && packet.protocol != kUdp) || header.size() < 4) return;
  packet.source.port.value = get16(header, 0);
  packet.destination.port.value = get16(header, 2);
  if (packet.protocol == kTcp) {
    if (header.size() >= 8) packet.after_ports = get32(header, 4);
    if (header.size() >= 14) packet.tcp_flags = header[13];
  } else if (header.size() >= 12) {
    packet.payload = get32(header, 8);
  }
}

std::optional<TracedPacket> read_packet(std::span<const std::uint8_t> network,
                                        std::span<const std::uint8_t> transport) {
  if (network.empty()) return std::nullopt;
  TracedPacket packet;
  const unsigned version = network[0] >> 4U;
  if (version == 4 && network.size() >= 20) {
    packet.protocol = network[9];
    packet.source.address = read_address(Family::ipv4, network.subspan(12));
    packet.destination.address = read_address(Family::ipv4, network.subspan(16));
  } else if (version == 6 && network.size() >= 40) {
    packet.protocol = network[6];  // behind extension headers: theirs, and then there are no ports
    packet.source.address = read_address(Family::ipv6, network.subspan(8));
    packet.destination.address = read_address(Family::ipv6, network.subspan(24));
  } else {
    return std::nullopt;
  }
  read_transport(transport, packet);
  return packet;
}

std::optional<TraceKind> kind_of(std::optional<std::uint32_t> native) {
  if (!native) return std::nullopt;
  switch (*native) {
    case NFT_TRACETYPE_RULE: return TraceKind::rule;
    case NFT_TRACETYPE_RETURN: return TraceKind::fell_out;
    case NFT_TRACETYPE_POLICY: return TraceKind::policy;
    default: return std::nullopt;
  }
}

}  // namespace

std::string_view to_string(TraceVerdict verdict) noexcept {
  switch (verdict) {
    case TraceVerdict::go_on: return "continue";
    case TraceVerdict::accept: return "accept";
    case TraceVerdict::drop: return "drop";
    case TraceVerdict::jump: return "jump";
    case TraceVerdict::go_to: return "goto";
    case TraceVerdict::leave: return "return";
    case TraceVerdict::queue: return "queue";
    case TraceVerdict::stolen: return "stolen";
    case TraceVerdict::other: return "other";
  }
  return "";
}

std::optional<TraceEvent> parse_trace_message(std::span<const std::byte> bytes) {
  if (bytes.size() < sizeof(nlmsghdr) || bytes.size() > std::numeric_limits<std::uint32_t>::max()) return std::nullopt;
  // A copy, because bytes of a stranger need not be aligned.
  std::vector<std::uint32_t> aligned((bytes.size() + 3) / 4);
  std::memcpy(aligned.data(), bytes.data(), bytes.size());
  const auto& message = *reinterpret_cast<const nlmsghdr*>(aligned.data());
  if (message.nlmsg_len > bytes.size() || message.nlmsg_len < sizeof(nlmsghdr) + sizeof(nfgenmsg)) return std::nullopt;
  if (message.nlmsg_type != ((NFNL_SUBSYS_NFTABLES << 8U) | NFT_MSG_TRACE)) return std::nullopt;
  const auto& header = *static_cast<const nfgenmsg*>(mnl_nlmsg_get_payload(&message));
  const netlink::Attributes<kTraceConnectionState> attributes(message, sizeof(nfgenmsg));

  TraceEvent event;
  event.family = family_name(header.nfgen_family);
  event.table = attributes.text(NFTA_TRACE_TABLE);
  event.chain = attributes.text(NFTA_TRACE_CHAIN);
  const auto id = read_be32(attributes[NFTA_TRACE_ID]);
  const auto kind = kind_of(read_be32(attributes[NFTA_TRACE_TYPE]));
  if (event.family.empty() || event.table.empty() || event.chain.empty() || !id || !kind) return std::nullopt;
  event.id = *id;
  event.kind = *kind;
  if (const auto handle = payload_of(attributes[NFTA_TRACE_RULE_HANDLE]); handle.size() == sizeof(std::uint64_t)) {
    event.rule_handle = (std::uint64_t{get32(handle, 0)} << 32U) | get32(handle, 4);
  }
  auto verdict = read_verdict(attributes[NFTA_TRACE_VERDICT]);
  if (verdict.code) event.verdict = verdict_of(*verdict.code);
  event.target = std::move(verdict.chain);
  if (event.kind == TraceKind::policy) {
    event.verdict = read_be32(attributes[NFTA_TRACE_POLICY]).value_or(NF_ACCEPT) == NF_DROP ? TraceVerdict::drop
                                                                                            : TraceVerdict::accept;
  }
  event.mark = read_be32(attributes[NFTA_TRACE_MARK]).value_or(0);
  event.input_interface = read_be32(attributes[NFTA_TRACE_IIF]).value_or(0);
  event.output_interface = read_be32(attributes[NFTA_TRACE_OIF]).value_or(0);
  event.connection_state = read_be32(attributes[kTraceConnectionState]);
  event.packet = read_packet(payload_of(attributes[NFTA_TRACE_NETWORK_HEADER]),
                             payload_of(attributes[NFTA_TRACE_TRANSPORT_HEADER]));
  return event;
}

Result<TraceSocket> TraceSocket::open() {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER));
  if (!fd.valid()) return system_error(errno, "open", "netlink socket");
  sockaddr_nl own{};
  own.nl_family = AF_NETLINK;
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0) {
    return system_error(errno, "bind", "netlink socket");
  }
  // A convenience: without CAP_NET_ADMIN, which the next step needs, it stays as small as it is.
  (void)setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &kSocketBufferBytes, sizeof kSocketBufferBytes);
  const unsigned group = NFNLGRP_NFTRACE;
  if (setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof group) != 0) {
    return system_error(errno, "hear of", "nftables' traces", "needs CAP_NET_ADMIN: run as root");
  }
  return TraceSocket(std::move(fd));
}

Result<std::vector<TraceEvent>> TraceSocket::take(std::chrono::milliseconds patience) {
  std::vector<TraceEvent> events;
  pollfd waiting{.fd = fd_.get(), .events = POLLIN, .revents = 0};
  if (poll(&waiting, 1, static_cast<int>(patience.count())) <= 0) return events;
  std::vector<std::byte> buffer(kReceiveBytes);
  // What comes faster than it can be read would never end.
  while (events.size() < kMostAtOnce) {
    const ssize_t length = recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (length < 0 && errno == EINTR) continue;
    if (length < 0 && errno == ENOBUFS) {
      ++losses_;
      continue;
    }
    if (length < 0 && errno == EAGAIN) return events;
    if (length < 0) return system_error(errno, "read", "nftables' traces");
    if (length == 0) return events;
    int left = static_cast<int>(length);
    for (const auto* message = reinterpret_cast<const nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(message, left);
         message = mnl_nlmsg_next(message, &left)) {
      if (auto event = parse_trace_message(std::as_bytes(
              std::span(reinterpret_cast<const std::uint8_t*>(message), static_cast<std::size_t>(message->nlmsg_len)))))
        events.push_back(std::move(*event));
    }
  }
  return events;
}

}  // namespace limpid
