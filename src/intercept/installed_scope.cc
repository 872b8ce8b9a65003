// Reads the rules that nft_table.cc writes: the jumps of chain prerouting hold the ports, those of scope and clients the
// networks and interfaces, the tproxy statements of intercept the families.
#include "intercept/installed_scope.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <vector>

#include "limpid/port_set.h"
#include "limpid/prefix.h"

namespace limpid {
namespace {

using nlohmann::json;

constexpr unsigned kNfprotoIpv4 = 2;  // include/uapi/linux/netfilter.h
constexpr int kRawPriority = -300;    // NF_IP_PRI_RAW

std::string verdict_of(const NftRule& rule) {
  for (const json& statement : rule.expression) {
    if (statement.contains("accept")) return "accept";
    if (statement.contains("reject")) return "reject";
    if (!statement.contains("goto")) continue;
    return text_of(statement["goto"], "target");
  }
  return {};
}

/// The right sides of `match` statements whose left side is `left`, a set's elements one by one.
std::vector<json> values_of(const NftRule& rule, const json& left) {
  std::vector<json> values;
  for (const json& statement : rule.expression) {
    if (!statement.is_object() || !statement.contains("match")) continue;
    const json& match = statement["match"];
    if (!match.is_object() || match.value("left", json()) != left || text_of(match, "op") != "==") continue;
    const json right = match.value("right", json());
    if (right.is_object() && right.contains("set") && right["set"].is_array()) {
      for (const json& element : right["set"]) values.push_back(element);
    } else {
      values.push_back(right);
    }
  }
  return values;
}

json payload(std::string_view protocol, std::string_view field) {
  return {{"payload", {{"protocol", protocol}, {"field", field}}}};
}

void read_ports(const NftRule& rule, std::string_view protocol, std::string& text) {
  for (const json& value : values_of(rule, payload(protocol, "dport"))) {
    std::string range;
    if (value.is_number_unsigned()) range = std::to_string(value.get<unsigned>());
    if (value.is_object() && value.contains("range") && value["range"].is_array() && value["range"].size() == 2 &&
        value["range"][0].is_number_unsigned() && value["range"][1].is_number_unsigned()) {
      range =
          std::to_string(value["range"][0].get<unsigned>()) + '-' + std::to_string(value["range"][1].get<unsigned>());
    }
    if (!range.empty()) text += (text.empty() ? "" : ",") + range;
  }
}

std::optional<Prefix> prefix_of(const json& value) {
  std::string text;
  if (value.is_string()) text = value.get<std::string>();
  if (value.is_object() && value.contains("prefix") && value["prefix"].is_object()) {
    const json& prefix = value["prefix"];
    if (prefix.contains("addr") && prefix["addr"].is_string() && prefix.contains("len") &&
        prefix["len"].is_number_unsigned()) {
      text = prefix["addr"].get<std::string>() + '/' + std::to_string(prefix["len"].get<unsigned>());
    }
  }
  const auto parsed = Prefix::parse(text);
  return parsed ? std::optional(*parsed) : std::nullopt;
}

void read_networks(const NftRule& rule, std::string_view field, InstalledScope& installed,
                   std::vector<Prefix>& networks) {
  for (const std::string_view header : {"ip", "ip6"}) {
    for (const json& value : values_of(rule, payload(header, field))) {
      if (const auto prefix = prefix_of(value)) {
        networks.push_back(*prefix);
      } else {
        installed.complete = false;
      }
    }
  }
  for (const json& value : values_of(rule, {{"meta", {{"key", "nfproto"}}}})) {
    if (value.is_number_unsigned()) {
      networks.push_back(Prefix::everything(value.get<unsigned>() == kNfprotoIpv4 ? Family::ipv4 : Family::ipv6));
    }
  }
}

void read_sources(const NftRule& rule, InstalledScope& installed) {
  for (const json& value : values_of(rule, {{"meta", {{"key", "iifname"}}}})) {
    if (value.is_string()) installed.scope.from_interfaces.push_back(value.get<std::string>());
  }
  read_networks(rule, "saddr", installed, installed.scope.from_prefixes);
}

bool is_link_local(const Prefix& prefix) {
  return prefix.network().is_link_local() && prefix.length() <= 16;
}

struct Reader {
  InstalledScope installed;
  std::string tcp;
  std::string udp;
  bool from_anywhere = false;

  void read(const NftRule& rule) {
    const std::string verdict = verdict_of(rule);
    if (rule.chain == "prerouting" || rule.chain == "datagrams") {
      if (verdict == "scope") {
        installed.scope.forwarded = true;
        read_ports(rule, "tcp", tcp);
        read_ports(rule, "udp", udp);
      }
    } else if (rule.chain == "scope" || rule.chain == "clients") {
      read_selection(rule, verdict);
    } else if (rule.chain == "intercept") {
      read_interception(rule, verdict);
    } else if (rule.chain == "local_output") {
      installed.scope.local = LocalScope{};
      read_ports(rule, "tcp", tcp);
      read_ports(rule, "udp", udp);
    }
  }

  void read_selection(const NftRule& rule, std::string_view verdict) {
    if (verdict == "intercept") {
      from_anywhere = from_anywhere || rule.expression.size() == 1;
      read_sources(rule, installed);
    } else if (verdict == "clients") {
      read_networks(rule, "daddr", installed, installed.scope.to_prefixes);
    } else if (verdict == "accept") {
      std::vector<Prefix> networks;
      read_networks(rule, "daddr", installed, networks);
      std::ranges::copy_if(networks, std::back_inserter(installed.scope.excluded),
                           [](const Prefix& prefix) { return !is_link_local(prefix); });
    }
  }

  void read_interception(const NftRule& rule, std::string_view verdict) {
    if (verdict == "reject") installed.fail = FailMode::closed;
    for (const json& statement : rule.expression) {
      if (!statement.contains("tproxy") || !statement["tproxy"].is_object()) continue;
      const std::string family = text_of(statement["tproxy"], "family");
      installed.draining = false;
      if (family == "ip") installed.scope.ipv4 = true;
      if (family == "ip6") installed.scope.ipv6 = true;
    }
  }
};

}  // namespace

InstalledScope read_installed_scope(const Ruleset& ruleset, const std::string& table) {
  Reader reader;
  Scope& scope = reader.installed.scope;
  scope.ipv4 = false;
  scope.ipv6 = false;
  scope.forwarded = false;
  reader.installed.draining = true;
  for (const NftRule& rule : ruleset.rules) {
    if (rule.family == "inet" && rule.table == table) reader.read(rule);
  }
  if (auto tcp = PortSet::parse(reader.tcp)) scope.tcp = *tcp;
  if (auto udp = PortSet::parse(reader.udp)) scope.udp = *udp;
  for (const NftChain& chain : ruleset.chains) {
    if (chain.table != table) continue;
    // What a proxy needs beside its scope is not among the flags that can be told from the rules.
    if (chain.name == "tracked" || chain.name == "listener") reader.installed.complete = false;
    if (chain.name == "prerouting" && chain.priority == kRawPriority) reader.installed.keeps_tcp_port = true;
  }
  if (reader.from_anywhere) {
    scope.from_interfaces.clear();
    scope.from_prefixes.clear();
  }
  return reader.installed;
}

}  // namespace limpid
