// Asks a kernel and its iptables what they can, by loading a rule for each thing in a network namespace of its own: iptables-restore
// --test would look at the grammar only.
#include <fmt/format.h>

#include <array>
#include <string>
#include <vector>

#include "base/process.h"
#include "intercept/heartbeat.h"
#include "intercept/trial.h"
#include "intercept/xtables.h"

namespace limpid {
namespace {

enum class Needed : std::uint8_t { always, locally };

struct Feature {
  std::string_view table;
  std::string_view rule;
  std::string_view description;
  Needed needed = Needed::always;
};

constexpr std::array kBothFamilies = {
    Feature{"mangle", "-j ACCEPT", "the table mangle (CONFIG_IP_NF_MANGLE, CONFIG_IP6_NF_MANGLE)"},
    Feature{"raw", "-j CT --notrack",
            "the table raw and the CT target (CONFIG_IP_NF_RAW, CONFIG_IP6_NF_RAW, CONFIG_NETFILTER_XT_TARGET_CT)"},
    Feature{"filter", "-p tcp -j REJECT --reject-with tcp-reset",
            "the table filter and the REJECT target (CONFIG_IP_NF_TARGET_REJECT, CONFIG_IP6_NF_TARGET_REJECT)"},
    Feature{"mangle", "-p tcp ! --syn -m socket --transparent",
            "the `socket` match (CONFIG_NETFILTER_XT_MATCH_SOCKET, `modprobe xt_socket`)"},
    Feature{"mangle", "-m mark --mark 0x1/0x3 -j MARK --set-xmark 0x1/0x3",
            "the `mark` match and the MARK target (CONFIG_NETFILTER_XT_MARK, `modprobe xt_mark`)"},
    Feature{"mangle", "-p tcp -m multiport --dports 80,8000:8100",
            "the `multiport` match (CONFIG_NETFILTER_XT_MATCH_MULTIPORT, `modprobe xt_multiport`)"},
    Feature{"mangle", "-m addrtype --dst-type LOCAL",
            "the `addrtype` match (CONFIG_NETFILTER_XT_MATCH_ADDRTYPE, `modprobe xt_addrtype`)"},
    Feature{"mangle", "-m comment --comment limpid",
            "the `comment` match (CONFIG_NETFILTER_XT_MATCH_COMMENT, `modprobe xt_comment`)"},
    Feature{"mangle", "-m recent --rcheck --seconds 1 --name limpid",
            "the `recent` match (CONFIG_NETFILTER_XT_MATCH_RECENT, `modprobe xt_recent`)"},
    Feature{
        "mangle", "-m conntrack --ctdir REPLY -m connmark --mark 0x1/0x3",
        "the `conntrack` and `connmark` matches (CONFIG_NETFILTER_XT_MATCH_CONNTRACK, CONFIG_NETFILTER_XT_CONNMARK; "
        "--local needs them)",
        Needed::locally},
    Feature{"mangle", "-j CONNMARK --set-xmark 0x1/0x3",
            "the CONNMARK target (CONFIG_NETFILTER_XT_CONNMARK; --local needs it)", Needed::locally},
    Feature{"mangle", "-m owner --socket-exists",
            "the `owner` match (CONFIG_NETFILTER_XT_MATCH_OWNER; --local needs it)", Needed::locally},
};
constexpr std::array kOnlyIpv4 = {
    Feature{"mangle", "-p tcp -j TPROXY --on-port 1 --on-ip 127.0.0.1 --tproxy-mark 0x1/0x3",
            "the TPROXY target (CONFIG_NETFILTER_XT_TARGET_TPROXY, `modprobe xt_TPROXY`)"}};
constexpr std::array kOnlyIpv6 = {
    Feature{
        "mangle", "-p tcp -j TPROXY --on-port 1 --on-ip ::1 --tproxy-mark 0x1/0x3",
        "the TPROXY target for IPv6 (CONFIG_NETFILTER_XT_TARGET_TPROXY, CONFIG_NF_TPROXY_IPV6; or use --ipv4-only)"},
    Feature{"mangle", "-m ipv6header --header ipv6-route --soft",
            "the `ipv6header` match (CONFIG_IP6_NF_MATCH_IPV6HEADER; --local needs it)", Needed::locally}};

std::vector<Feature> features_of(Family family, bool local) {
  std::vector<Feature> wanted;
  const auto add = [&](const auto& features) {
    for (const Feature& feature : features) {
      if (feature.needed == Needed::always || local) wanted.push_back(feature);
    }
  };
  add(kBothFamilies);
  if (family == Family::ipv4) {
    add(kOnlyIpv4);
  } else {
    add(kOnlyIpv6);
  }
  return wanted;
}

/// In a chain to which nothing leads.
std::string probe_of(const Feature& feature, std::size_t number) {
  return fmt::format("*{0}\n:try{2} - [0:0]\n-A try{2} {1}\nCOMMIT\n", feature.table, feature.rule, number);
}

/// In the namespace of its own: what is missing for one family, in words; empty: nothing.
Result<std::string> find_missing(Backend backend, Family family, bool local) {
  const auto wanted = features_of(family, local);
  std::string all;
  for (std::size_t i = 0; i < wanted.size(); ++i) all += probe_of(wanted[i], i);
  const auto outcome = feed_xtables(backend, family, all, "a probe");
  if (outcome) return std::string();
  if (outcome.error().kind == ErrorKind::unsupported) return std::unexpected(outcome.error());
  for (const Feature& feature : wanted) {
    if (!feed_xtables(backend, family, probe_of(feature, wanted.size()), "a probe"))
      return std::string(feature.description);
  }
  return std::unexpected(outcome.error());
}

}  // namespace

Result<std::optional<std::string>> find_missing_xtables_feature(Backend backend, const Scope& scope) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    if (family == Family::ipv4 ? !scope.ipv4 : !scope.ipv6) continue;
    for (const std::string_view verb : {"restore", "save"}) {
      if (auto program = find_system_program(xtables_program(backend, family, verb), "iptables"); !program)
        return std::unexpected(program.error());
    }
  }
  const auto missing = try_in_new_namespace([&](bool in_user_namespace) -> Result<std::string> {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      if (family == Family::ipv4 ? !scope.ipv4 : !scope.ipv6) continue;
      auto found = find_missing(backend, family, scope.local.has_value());
      if (!found || !found->empty()) return found;
    }
    // In a user namespace the list belongs to nobody; who is root only there, for a look, is told nothing about it.
    if (!in_user_namespace) {
      if (auto beaten = beat_heart("limpid", scope.ipv4, scope.ipv6); !beaten)
        return fmt::format("a list of the `recent` match that can be written: {}", beaten.error().message());
    }
    return std::string();
  });
  if (!missing) return std::unexpected(missing.error());
  return missing->empty() ? std::nullopt : std::optional(*missing);
}

}  // namespace limpid
