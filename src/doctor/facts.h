// What the doctor looks at, collected once, as a value: the checks are pure functions of it. Reads the kernel and a few
// files; changes nothing.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "doctor/counters.h"
#include "doctor/iptables.h"
#include "doctor/processes.h"
#include "intercept/disturbances.h"
#include "intercept/plan.h"
#include "intercept/ruleset.h"
#include "intercept/survey.h"
#include "intercept/xtables.h"
#include "limpid/error.h"
#include "net/netlink.h"
#include "net/socket_diag.h"

namespace limpid::doctor {

/// An interception that is judged: one that is installed, or one that is planned.
struct Judged {
  Ownership ownership;
  Scope scope;
  FailMode fail = FailMode::open;
  bool installed = false;
  bool alive = false;          ///< its process holds the lock of its name
  bool draining = false;       ///< it captures nothing new
  bool scope_complete = true;  ///< false: networks stand in sets that were not read, or it was made for a certain proxy
  bool keeps_tcp_port = false;             ///< both legs are kept out of conntrack
  std::vector<std::string> missing_rules;  ///< iptables: what was written and is gone, in words
  std::vector<RunningProcess> processes;   ///< of `limpid run`, the one that relays first; empty: not known, or none
  std::string scope_problem;               ///< why its rules could not be read: then its scope is unknown
};

/// A setting that has a value for all interfaces and one for each: the larger counts, or either switches it on.
struct InterfaceSetting {
  int all = 0;
  int own = 0;
  [[nodiscard]] int effective() const { return all > own ? all : own; }
};

struct Interface {
  LinkInfo link;
  InterfaceSetting rp_filter;
  InterfaceSetting src_valid_mark;
  InterfaceSetting route_localnet;
  bool has_address = false;
};

/// What a probe through the host's own rules told; see live_probe.h.
struct ProbeEvidence {
  std::vector<Family> accepted;       ///< families of which an intercepted packet passed the input chains
  std::optional<bool> reachable_tcp;  ///< the listener's port, from an interface that is not loopback
};

struct Usage {
  std::uint64_t used = 0;
  std::uint64_t most = 0;
};

struct Facts {
  Survey survey;
  std::vector<Judged> judged;
  /// Instances whose cut-through programs are attached and whose process has gone, installed or not.
  std::vector<std::string> abandoned_cut_through;
  std::string cut_through_problem;  ///< why they could not be looked for
  std::vector<Interface> interfaces;
  std::vector<AddressInfo> addresses;
  std::optional<Ruleset> ruleset;
  std::string ruleset_problem;  ///< why there is none
  bool ruleset_not_permitted = false;
  std::vector<XtablesPiece> xtables;  ///< chains with names of ours
  std::string xtables_problem;
  std::vector<Iptables> iptables;
  std::string iptables_problem;  ///< why they could not be read
  bool iptables_not_permitted = false;
  std::vector<Disturbance> bridges;
  std::vector<Disturbance> strict_ways_out;
  std::vector<ServerSocket> tcp_listeners;
  std::vector<ServerSocket> udp_sockets;
  std::string sockets_problem;
  std::vector<UnansweredConnection> unanswered;
  std::optional<Usage> conntrack;
  Usage descriptors;   ///< most: the soft limit of this process; used: the hard limit
  Usage file_handles;  ///< of the whole system
  std::uint64_t time_wait = 0;
  std::uint64_t martian_sources = 0;     ///< /proc/net/stat/rt_cache in_martian_src: of the whole machine
  std::uint64_t reverse_path_drops = 0;  ///< TcpExt IPReversePathFilter
  std::uint64_t available_memory_kib = 0;
  bool networkd_runs = false;
  bool networkd_keeps_rules = false;  ///< ManageForeignRoutingPolicyRules=no is configured
  bool network_manager_runs = false;
  bool reverse_path_drops_rise = false;              ///< they went up while the doctor looked
  std::map<std::uint16_t, std::string> port_owners;  ///< by listener port: "squid (pid 812)"
  std::map<std::string, ProbeEvidence> evidence;     ///< by name of the installation
  std::string wanted_name;                           ///< --name without a plan; empty: all that is installed
  bool may_change_network = false;                   ///< CAP_NET_ADMIN
};

struct FactsRequest {
  std::string name;                            ///< empty: every installation
  std::optional<InterceptionOptions> planned;  ///< judge this instead
};

[[nodiscard]] Result<Facts> collect_facts(const FactsRequest& request);

/// Without it no route through it can be made, and nothing is delivered.
[[nodiscard]] bool loopback_is_up(const Facts& facts);

/// Whether traffic that arrives on `interface` is in scope.
[[nodiscard]] bool covers(const Scope& scope, const std::string& interface);
/// Whether any installation that is judged covers it.
[[nodiscard]] bool is_covered(const Facts& facts, const std::string& interface);

}  // namespace limpid::doctor
