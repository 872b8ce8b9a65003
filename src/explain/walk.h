// The walk of one packet through netfilter, put together from trace messages: what each matching rule said, in the rules' own text and, for
// Limpid's tables, in words; and how it ended. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "explain/ebpf_answer.h"
#include "explain/listing.h"
#include "explain/probe_table.h"
#include "intercept/plan.h"
#include "limpid/error.h"
#include "net/netlink.h"
#include "net/nft_trace.h"

namespace limpid {

/// A rule that matched, a chain that came to its end, or a base chain's policy.
struct Step {
  std::string hook;  ///< "prerouting", …; empty where it could not be found out
  TableKey table;
  std::string chain;
  TraceKind kind = TraceKind::rule;
  std::uint64_t handle = 0;
  std::string rule;  ///< its text; empty where nft did not tell
  std::string comment;
  TraceVerdict verdict = TraceVerdict::go_on;
  std::string target;      ///< with jump and goto
  std::uint32_t mark = 0;  ///< after the step
  std::string input_interface;
  std::string output_interface;
  std::optional<std::uint32_t> connection_state;
  std::string instance;  ///< of Limpid's, whose table it is; empty: somebody else's
  std::string words;     ///< what it means, for Limpid's tables; may be empty
  bool decides = false;  ///< Limpid's decision about the packet: `words` is the reason
};

enum class End : std::uint8_t {
  delivered,  ///< to this host: it came to the end of input
  left,       ///< for elsewhere: it came to the end of postrouting
  dropped,    ///< by a rule or a policy
  rejected,   ///< the same, with an answer
  queued,     ///< given to a program (nfqueue)
  stolen,     ///< kept by a rule
  vanished,   ///< nothing more was heard of it
};
/// "delivered", …
[[nodiscard]] std::string_view to_string(End end) noexcept;

struct Walk {
  std::optional<TracedPacket> first;  ///< as it came
  std::optional<TracedPacket> last;   ///< as it was seen last: NAT may have changed it
  std::string arrived_at;             ///< interface; empty: sent by this host
  std::string left_by;                ///< with `left`
  std::vector<Step> steps;
  End end = End::vanished;
  std::optional<std::size_t> end_step;  ///< which step ended it, with dropped, rejected, queued, stolen
  std::string last_hook;                ///< the hook whose chains saw it last
  std::uint32_t mark = 0;               ///< at the end
  std::uint32_t sent_mark = 0;          ///< of a packet of this host's, when it left output: what it was routed by
  bool to_this_host = false;            ///< the destination was an address of this host's when it came
  bool has_socket = false;              ///< when delivered: a socket waits for it
  bool answered = false;                ///< this host answered with a reset or an ICMP error
};

/// What the interpretation needs beside the messages.
struct Surroundings {
  const RuleBook* rules = nullptr;
  std::map<std::string, Ownership> instances;  ///< installed ones, by name
  /// Families in which an instance by iptables has no rules: "limpid" and IPv6, with --ipv4-only.
  std::set<std::pair<std::string, Family>> without_rules;
  std::map<std::uint32_t, std::string> interfaces;
  std::vector<std::string> troubles;  ///< what could not be looked up, a line each
  std::vector<EbpfInstallation> ebpf;
  std::map<std::string, EbpfAnswer> ebpf_answers;  ///< of those that could be asked, by instance
};

/// The installed instances of every backend, and the interfaces.
[[nodiscard]] Result<Surroundings> look_around(RouteSocket& routing);

/// The probe's walk out of everything that was heard, its copies included; the answers that it caused are not steps.
[[nodiscard]] Walk walk_of_probe(const std::vector<TraceEvent>& events, const ProbeMarks& probe,
                                 const Surroundings& surroundings);
/// Which of the messages walk_of_probe() has a use for: those of the probe and its copies, and those about its answers. Others may trace as
/// well, as much as they like.
class ProbeFilter {
 public:
  explicit ProbeFilter(const ProbeMarks& probe) : probe_(probe) {}
  [[nodiscard]] bool concerns(const TraceEvent& event);

 private:
  ProbeMarks probe_;
  std::set<std::uint32_t> ids_;  ///< of packets whose headers were the probe's
};
/// The walk of one packet, all of whose messages have one id.
[[nodiscard]] Walk walk_of_packet(const std::vector<TraceEvent>& events, const Surroundings& surroundings);
/// Whether nothing more will come of this packet.
[[nodiscard]] bool is_final(const TraceEvent& event, const Surroundings& surroundings);

}  // namespace limpid
