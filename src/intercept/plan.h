// The plan: the complete set of kernel changes as a value. make_plan() is pure; what it returns is printed by `limpid
// rules show`, compared by `diff`, installed by `apply` and `run`: always the very same value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "limpid/error.h"
#include "limpid/interception.h"
#include "limpid/mark.h"
#include "net/netlink.h"

namespace limpid {

/// The routing protocol number (rtnetlink's rtm_protocol) that tags our rules and routes: 'L'. Below the range that
/// include/uapi/linux/rtnetlink.h assigns to daemons (186 and up), and used by none of iproute2's rt_protos.
inline constexpr std::uint8_t kRouteProtocol = 76;

/// The sysctls that a plan may change, and their meaning in Ownership::sysctls.
inline constexpr std::string_view kForwardingIpv4 = "net.ipv4.ip_forward";           ///< "4"
inline constexpr std::string_view kForwardingIpv6 = "net.ipv6.conf.all.forwarding";  ///< "6"
/// eBPF: what this host sends comes in again through lo, where a source address of its own would be a martian.
inline constexpr std::string_view kAcceptLocal = "net.ipv4.conf.lo.accept_local";  ///< "l"

/// Two-bit field of the packet mark that Limpid uses, in the place that `mask` has. The third value, both bits, is on packets of
/// this host's own programs on their way through the loopback interface; and, with iptables, on what one table says to the next.
struct MarkField {
  std::uint32_t mask = 0;       ///< at least two bits
  std::uint32_t intercept = 0;  ///< packets with it are delivered locally
  std::uint32_t bypass = 0;     ///< our own sockets' packets; never captured
  [[nodiscard]] Mark intercept_mark() const { return {intercept, mask}; }
  [[nodiscard]] Mark bypass_mark() const { return {bypass, mask}; }
  [[nodiscard]] Mark local_mark() const { return {mask, mask}; }
  /// Out of what `--mark` said. Fails when the mask has fewer than two bits or the value is zero or fills it.
  [[nodiscard]] static Result<MarkField> from(const Mark& mark);
  bool operator==(const MarkField&) const = default;
};

/// Whether `name` may tag an installation: [a-z][a-z0-9_]{0,15}. It becomes part of nft's text, so nothing else may
/// pass.
[[nodiscard]] Status check_instance_name(std::string_view name);
/// "limpid" for the instance of that name, "limpid_NAME" for every other.
[[nodiscard]] std::string table_name_of(std::string_view name);
/// The inverse; empty for a table that no instance of ours can have.
[[nodiscard]] std::optional<std::string> instance_of(std::string_view table_name);

[[nodiscard]] std::string_view to_string(Backend backend);
[[nodiscard]] constexpr bool is_iptables(Backend backend) {
  return backend == Backend::iptables_nft || backend == Backend::iptables_legacy;
}
/// "limpid-pre", "limpid_NAME-pre": at most 28 characters (XT_EXTENSION_MAXNAMELEN), so a suffix has at most four.
[[nodiscard]] std::string xtables_chain(std::string_view name, std::string_view suffix);
/// The inverse; empty for a chain that no instance of ours can have.
[[nodiscard]] std::optional<std::string> instance_of_chain(std::string_view chain);

/// Who keeps an installed plan: a running `limpid run` or `rules apply` that has ended.
enum class Keeper : std::uint8_t { process, permanent };

struct SysctlChange {
  std::string key;
  std::string value;
  std::string previous;  ///< what it was; put back at removal
  bool operator==(const SysctlChange&) const = default;
};

/// One of these letters as the change that it stands for.
[[nodiscard]] SysctlChange sysctl_of(char letter);
/// The inverse.
[[nodiscard]] char letter_of(const SysctlChange& change);

/// What is recorded in the nft table's own comment, so that whoever finds it can undo everything without any file.
struct Ownership {
  std::string name;
  Keeper keeper = Keeper::process;
  MarkField mark;
  TableId table;
  RulePriority priority;
  Port listener;
  std::string sysctls;          ///< some of "46l": these were switched on, and were off before
  bool local = false;           ///< this host's own traffic too
  bool keeps_udp_port = false;  ///< the target legs of datagrams have the client's port; only with UDP in scope
  bool heartbeat = false;       ///< iptables: somebody beats (intercept/heartbeat.h) as long as somebody listens
  Backend backend = Backend::nftables;  ///< not in the comment: where that is found says it
  /// The comment, at most 127 bytes (NFTNL_UDATA_COMMENT_MAXLEN): "limpid 1 run 0x1/0x3 7676 100 p1080".
  [[nodiscard]] std::string to_comment() const;
  [[nodiscard]] static Result<Ownership> from_comment(std::string_view name, std::string_view comment,
                                                      Backend backend = Backend::nftables);
  bool operator==(const Ownership&) const = default;
};

/// Everything that make_plan() needs, all of it already chosen.
struct PlanInputs {
  Scope scope;
  FailMode fail = FailMode::open;
  bool keeps_source_port = false;
  bool needs_conntrack = false;  ///< the proxy asks SO_ORIGINAL_DST
  bool guards_listener = false;  ///< nobody may dial the listener itself
  Ownership ownership;
  std::vector<SysctlChange> sysctls;
  PortRange client_ports{.first = Port{32768}, .last = Port{60999}};  ///< net.ipv4.ip_local_port_range
};

/// Which nft table: "inet limpid".
struct NftTableName {
  std::string family;  ///< "inet", "ip" or "ip6"
  std::string name;
  [[nodiscard]] std::string to_string() const { return family + ' ' + name; }
  auto operator<=>(const NftTableName&) const = default;
};

/// A table that stands beside the main one, because what it does has no place in family inet.
struct CompanionTable {
  NftTableName name;
  std::string definition;  ///< as nft reads it; its comment is the main table's
};

/// A rule in a chain that is everybody's, which leads to one of ours. It is inserted before all others.
struct XtablesJump {
  std::string from;  ///< "PREROUTING"
  std::string to;    ///< "limpid-pre"
  bool operator==(const XtablesJump&) const = default;
};

/// What is ours in one table of iptables.
struct XtablesTable {
  std::string name;                 ///< "mangle"
  std::vector<std::string> chains;  ///< "limpid-pre"
  std::vector<std::string> rules;   ///< "limpid-pre -p tcp …": what follows -A
  std::vector<XtablesJump> jumps;
};

/// What is ours of one family, in the order in which tables are loaded: the last one captures.
struct XtablesRuleset {
  Family family = Family::ipv4;
  std::vector<XtablesTable> tables;
};

struct Plan {
  PlanInputs inputs;
  std::string table_name;  ///< "limpid" or "limpid_NAME", in nft's inet family; companions have the same
  std::string
      nft_table;  ///< with nftables: the table's definition, as nft reads it, without the statements that replace an older one
  std::vector<CompanionTable> companions;
  std::vector<XtablesRuleset> xtables;  ///< instead of the tables, where the backend is an iptables
  std::vector<RuleSpec> rules;          ///< in the order in which they are added
  std::vector<RouteSpec> routes;
  std::vector<SysctlChange> sysctls;
};

[[nodiscard]] Plan make_plan(const PlanInputs& inputs);

/// The nft input that turns the installed table into one for the time of a drain: nothing new is captured (or,
/// fail-closed, it is rejected), what is established lives on. Only the chain `intercept` changes.
[[nodiscard]] std::string render_draining_table(const Plan& plan);

/// What begin_drain() gives to iptables-restore.
[[nodiscard]] std::vector<XtablesRuleset> draining_xtables(const Plan& plan);

/// Every nft table of the plan, the main one first.
[[nodiscard]] std::vector<NftTableName> tables_of(const Plan& plan);

/// The nft statements that delete the tables, whether or not they are there.
[[nodiscard]] std::string render_deletion(const std::vector<NftTableName>& tables);

/// The nft input that puts the tables there atomically, whether or not some of these names exist.
[[nodiscard]] std::string render_nft_replacement(const Plan& plan);

/// What iptables-restore --noflush reads: "*mangle", chains, rules, jumps, COMMIT, for each table.
[[nodiscard]] std::string render_restore(const XtablesRuleset& rules);
/// "iptables-nft-restore", "ip6tables-legacy-restore"; `verb` is "restore" or "save".
[[nodiscard]] std::string xtables_program(Backend backend, Family family, std::string_view verb);
/// The mark on what is sent to clients in the name of others: with datagrams that keep their port, iptables has to tell it from what
/// goes to targets.
[[nodiscard]] std::uint32_t answer_mark(const Ownership& ownership);

/// The policy routing rules of an installation, in the order in which they are added.
[[nodiscard]] std::vector<RuleSpec> policy_rules(Family family, const Ownership& ownership);
/// Whether a rule is exactly as the installation made it: one with another mark at the same place is a left-over of an earlier run.
[[nodiscard]] bool owns(const Ownership& ownership, const RuleSpec& rule);
/// The same of a route: all of its table's are its own.
[[nodiscard]] bool owns(const Ownership& ownership, const RouteSpec& route);

/// "priority 100 iif lo fwmark 0x1/0x3 protocol 76 goto 102": what follows `ip rule add`, or `ip rule del`.
[[nodiscard]] std::string rule_arguments(const RuleSpec& rule);
/// "local 0.0.0.0/0 dev lo table 7676 proto 76": what follows `ip route add`, or `ip route del`.
[[nodiscard]] std::string route_arguments(const RouteSpec& route);
/// "ip -4 rule …", "ip -6 route …": how a thing is named in messages.
[[nodiscard]] std::string describe(const RuleSpec& rule);
[[nodiscard]] std::string describe(const RouteSpec& route);

/// As commands to read or to paste: a here-document for nft, ip rule, ip route, sysctl.
[[nodiscard]] std::string render_commands(const Plan& plan);
[[nodiscard]] std::string render_removal_commands(const Plan& plan);
/// The stable JSON schema of docs/rules.md.
[[nodiscard]] std::string render_json(const Plan& plan);

}  // namespace limpid
