// One rule as a value: a condition, and what is done with flows that meet it. Read from text by parse_rule(), put to work by RuleSet.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "net/endpoint.h"
#include "policy/client_test.h"
#include "policy/domain_set.h"
#include "policy/flow_facts.h"
#include "policy/leg_options.h"
#include "policy/range_set.h"

namespace limpid {

/// Each looks at one fact.
struct SourceIn {
  std::shared_ptr<const RangeSet> addresses;
};
struct DestinationIn {
  std::shared_ptr<const RangeSet> addresses;
};
struct SourcePortIn {
  RangeSet ports;
};
struct DestinationPortIn {
  RangeSet ports;
};
struct TransportIs {
  Transport transport = Transport::tcp;
};
struct NameIn {
  std::vector<std::shared_ptr<const DomainSet>> names;  ///< any of them
};
struct ProtocolIn {
  std::uint32_t protocols = 0;  ///< a bit for each AppProtocol
};
struct HasEch {};
struct TimeIn {
  RangeSet minutes;  ///< of the week
};
using Test = std::variant<SourceIn, DestinationIn, SourcePortIn, DestinationPortIn, TransportIs, NameIn, ProtocolIn,
                          HasEch, TimeIn, ClientTest>;

/// A tree of tests. Its depth is bounded by kDeepestCondition.
struct Condition {
  enum class Kind : std::uint8_t { always, test, all, any, none };
  Kind kind = Kind::always;
  std::optional<Test> test{};      ///< Kind::test
  std::vector<Condition> parts{};  ///< all, any: two or more; none: one, whose opposite is meant
};
inline constexpr unsigned kDeepestCondition = 32;

enum class FlowAction : std::uint8_t { direct, via, target, reject, drop, bypass };
/// "direct", "via", …
[[nodiscard]] std::string_view to_string(FlowAction action) noexcept;

struct Rule {
  std::string text;  ///< as written, without spaces around it
  Condition condition;
  FlowAction action = FlowAction::direct;
  std::string group{};                      ///< via
  std::optional<SocketAddress> target{};    ///< target
  std::shared_ptr<const LegOptions> leg{};  ///< how it is dialled (via: by_name alone); nullptr: as usual
  std::uint16_t upstream = 0;               ///< via: number of the group, found out likewise; 0: unknown
  bool target_on_this_host = false;         ///< target: found out by whoever puts the rule to work

  /// Whether the name that the flow asks for says where it goes.
  [[nodiscard]] bool goes_by_name() const noexcept {
    return leg && leg->by_name && (action == FlowAction::direct || action == FlowAction::via);
  }
};

/// What networks can be grouped by without naming them.
enum class PlaceKind : std::uint8_t { country, autonomous_system };
/// The networks of a country ("DE") or of an autonomous system ("64496").
using Places = std::function<Result<std::shared_ptr<const RangeSet>>(PlaceKind, const std::string&)>;

/// What rules may call by name: @lan, @ads, geoip(de).
struct NamedSets {
  std::map<std::string, std::shared_ptr<const RangeSet>, std::less<>> addresses;
  std::map<std::string, std::shared_ptr<const DomainSet>, std::less<>> domains;
  Places places{};                                ///< empty: none are known
  std::set<std::string, std::less<>> unusable{};  ///< of either kind: there, but with mistakes
};

/// Error::code where a rule names such a set, or a place in a database that cannot be read: the mistake is not the rule's, and has been told of.
inline constexpr int kUnusableSet = -1;

/// Reads `CONDITION -> ACTION`. Every error is a usage error whose cause begins with "column N: ".
///
///   condition  otherwise | test | ! condition | ( condition ) | condition && condition | condition || condition     (! before && before ||)
///   test       src(NETWORK…) dst(NETWORK…) sport(PORTS) dport(PORTS) proto(tcp|udp) domain([exact:|suffix:|keyword:|regex:] NAME…)
///              app(tls|http|quic|ssh|dns|unknown…) ech time([mon-fri] 08:00-18:00)
///              iif(INTERFACE…) mac(ADDRESS…) dscp(NAME|NUMBER…) uid(USER…) gid(GROUP…) cgroup(PATH…) process(PROGRAM…)
///              geoip([src:] COUNTRY…) asn([src:] NUMBER…)
///   action     direct[(OPTION…)] | via(GROUP[, by-name: yes]) | target(ADDRESS:PORT[, OPTION…]) | reject | drop | bypass
///   option     mark: NUMBER | interface: NAME | source: ADDRESS | by-name: yes (not with target)
///
/// Where several are given, one of them has to fit. @NAME stands for a set. What holds commas, brackets or spaces is written in "quotes".
[[nodiscard]] Result<Rule> parse_rule(std::string_view text, const NamedSets& sets);

}  // namespace limpid
