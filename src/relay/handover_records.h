// Flows and UDP sessions as records that one process hands to its successor, and back: values only, no descriptor is touched here. Whoever reads a record refuses what
// could not have been written. Bound to kHandoverVersion: two programs that disagree in it hand nothing over.
//
// Descriptors travel beside the records, in this order for each: a flow's client leg, target leg, and the two ends of the pipe of each direction that has one; a session's
// socket, and its control connection.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/record_codec.h"
#include "limpid/datagram.h"
#include "limpid/unique_fd.h"
#include "relay/decider.h"
#include "relay/flow.h"
#include "relay/udp_session_table.h"
#include "upstream/groups.h"

namespace limpid {

/// Changes with every change of a record's meaning.
inline constexpr std::uint32_t kHandoverVersion = 1;

/// Which upstream a flow goes through, by names: numbers belong to one process.
struct HandedUpstream {
  std::string group;   ///< empty: none
  std::string member;  ///< empty: none of them (`direct`)
  bool direct = false;
};

struct HandedFlow {
  Flow flow;  ///< without sockets, pipes and held bytes; `upstream` is not set
  HandedUpstream upstream;
  bool has_client = false;  ///< descriptors that go with it
  bool has_target = false;
  bool has_pipe_up = false;
  bool has_pipe_down = false;
  std::uint32_t held_up = 0;  ///< bytes that follow in records of their own
  std::uint32_t held_down = 0;
};

/// Whether a flow in this state can go on elsewhere as it is; otherwise its client's bytes still wait in its socket, and it begins anew.
[[nodiscard]] bool goes_on_elsewhere(const Flow& flow) noexcept;

/// Appends the flow, and its descriptors (borrowed) to `descriptors`. One that begins anew is written as `deciding`, or as `introducing`.
void write_flow(RecordWriter& writer, const Flow& flow, std::vector<int>& descriptors);
/// Empty: it makes no sense.
[[nodiscard]] std::optional<HandedFlow> read_flow(RecordReader& reader);

/// Through a SOCKS5 upstream.
struct HandedAssociation {
  HandedUpstream upstream;
  SocketAddress server;
  SocketAddress relay;
  std::string name;
};

struct HandedSession {
  UdpSession session;  ///< without sockets; `association` is not set
  std::optional<HandedAssociation> association;
};

/// One that has an association still to be made stays where it is.
[[nodiscard]] bool goes_on_elsewhere(const UdpSession& session) noexcept;
void write_session(RecordWriter& writer, const UdpSession& session, std::vector<int>& descriptors);
[[nodiscard]] std::optional<HandedSession> read_session(RecordReader& reader);

/// What was decided for a client's datagrams to one destination.
struct HandedRuling {
  UdpSessionKey key;
  std::uint64_t last_activity_ms = 0;
  bool answered = false;
  std::unique_ptr<UdpRuling> ruling;  ///< decided, or each_by_itself
  std::string upstream;               ///< group of its verdict; empty: none
};
/// Whether there is something to be remembered; otherwise its datagrams wait for a decision (HandedDatagram).
[[nodiscard]] bool is_decided(const UdpRuling& ruling) noexcept;
/// Of one that is decided. `groups` may be nullptr.
void write_ruling(RecordWriter& writer, const UdpSession& entry, const UpstreamGroups* groups);
[[nodiscard]] std::optional<HandedRuling> read_ruling(RecordReader& reader);

/// One that waits for a decision: the successor begins with it as if it had just come.
struct HandedDatagram {
  UdpSessionKey key;
  std::uint32_t interface = 0;
  HeldDatagram held;
};
void write_datagram(RecordWriter& writer, const UdpSession& entry, const HeldDatagram& held);
[[nodiscard]] std::optional<HandedDatagram> read_datagram(RecordReader& reader);

}  // namespace limpid
