// The throw-away nft tables that make packets visible: `limpid explain`'s, which also keeps its probe from arriving anywhere, and `limpid
// trace`'s, which only looks. Pure: text out of values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "limpid/address.h"
#include "limpid/prefix.h"
#include "net/endpoint.h"

namespace limpid {

/// Two underscores: no instance can have such a name (check_instance_name).
inline constexpr std::string_view kExplainTable = "limpid__explain";
inline constexpr std::string_view kTraceTable = "limpid__trace";

/// The chains of both, by which their own trace messages are known.
inline constexpr std::string_view kArrivalChain = "arrival";      ///< prerouting, before everybody
inline constexpr std::string_view kSendingChain = "sending";      ///< output, before everybody
inline constexpr std::string_view kDeliveryChain = "delivery";    ///< input, after everybody but conntrack's last word
inline constexpr std::string_view kDepartureChain = "departure";  ///< postrouting, likewise

/// The comments of rules in them that answer a question.
inline constexpr std::string_view kToThisHost = "to this host";
inline constexpr std::string_view kHasSocket = "has a socket";
inline constexpr std::string_view kEndsHere = "the probe ends here";
inline constexpr std::string_view kItsAnswer = "its answer ends here";

/// What a probe is known by, wherever NAT may have taken it.
struct ProbeMarks {
  Transport transport = Transport::tcp;
  std::optional<IpAddress> source;  ///< empty: the kernel chooses
  Port source_port;
  SocketAddress destination;
  std::uint32_t cookie = 0;  ///< TCP: the SYN's sequence number; UDP: the first eight bytes of the payload, twice this
};

[[nodiscard]] std::string render_explain_table(const ProbeMarks& probe, int pid);

/// Which packets `limpid trace` follows: those of a flow in both directions, as far as it was given.
struct TraceSelection {
  Transport transport = Transport::tcp;
  std::optional<IpAddress> source;
  std::optional<Port> source_port;
  std::optional<IpAddress> destination;
  std::optional<Port> destination_port;
};

[[nodiscard]] std::string render_trace_table(const TraceSelection& selection, int pid);

/// The nft statements that take such a table away, whether or not it is there.
[[nodiscard]] std::string render_table_removal(std::string_view table);

}  // namespace limpid
