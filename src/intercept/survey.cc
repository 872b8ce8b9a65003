// Reads what is in the kernel into a Survey: rules, routes, links, our own tables, and the sysctls that disturb
// interception. Changes nothing. What the numbers mean is decided in numbers.cc.
#include "intercept/survey.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>

#include "intercept/disturbances.h"
#include "intercept/found.h"
#include "net/sysctl.h"

namespace limpid {
namespace {

namespace fs = std::filesystem;

bool is_on(std::string_view key) {
  const auto value = read_sysctl(key);
  return value && *value != "0";
}

/// Lines of "NUMBER NAME", with comments after '#'; see rt_tables in ip-route(8).
void read_table_names(const fs::path& path, std::set<std::uint32_t>& tables) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto begin = line.find_first_not_of(" \t");
    if (begin == std::string::npos) continue;
    std::string_view rest = std::string_view(line).substr(begin);
    int base = 10;
    if (rest.starts_with("0x")) {
      rest.remove_prefix(2);
      base = 16;
    }
    std::uint32_t table = 0;
    if (std::from_chars(rest.data(), rest.data() + rest.size(), table, base).ec == std::errc{}) tables.insert(table);
  }
}

std::vector<std::uint32_t> named_tables() {
  std::set<std::uint32_t> tables;
  for (const fs::path directory : {"/etc/iproute2", "/usr/lib/iproute2", "/usr/share/iproute2"}) {
    read_table_names(directory / "rt_tables", tables);
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(directory / "rt_tables.d", ignored)) {
      if (entry.path().extension() == ".conf") read_table_names(entry.path(), tables);
    }
  }
  return {tables.begin(), tables.end()};
}

Status read_rules(RouteSocket& socket, Survey& survey) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    if (family == Family::ipv6 && !survey.ipv6_available) continue;
    auto rules = socket.rules(family);
    if (!rules) return std::unexpected(rules.error());
    std::ranges::move(*rules, std::back_inserter(survey.rules));
  }
  return {};
}

Status read_routing(Survey& survey) {
  auto socket = RouteSocket::open();
  if (!socket) return std::unexpected(socket.error());
  if (auto read = read_rules(*socket, survey); !read) return read;
  auto links = socket->links();
  if (!links) return std::unexpected(links.error());
  survey.links = std::move(*links);
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    if (family == Family::ipv6 && !survey.ipv6_available) continue;
    auto routes = socket->routes(family);
    if (!routes) return std::unexpected(routes.error());
    std::ranges::move(*routes, std::back_inserter(survey.routes));
  }
  return {};
}

/// The ports that programs here call from unless they choose one themselves: "32768\t60999".
void read_client_ports(Survey& survey) {
  const auto text = read_sysctl("net.ipv4.ip_local_port_range");
  if (!text) return;
  std::istringstream words(*text);
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  if (words >> first >> last && first <= last) survey.client_ports = {.first = Port{first}, .last = Port{last}};
}

Status read_installations(Survey& survey) {
  auto found = find_installed();
  if (!found) {
    if (found.error().kind != ErrorKind::unsupported) return std::unexpected(found.error());
    survey.warnings.push_back(fmt::format(
        "what is installed already cannot be seen, so the chosen numbers may differ: {}", found.error().message()));
    return {};
  }
  for (Ownership& ownership : found->owners()) {
    std::string name = ownership.name;
    survey.installations.push_back({.name = std::move(name), .ownership = std::move(ownership)});
  }
  survey.foreign_tables = std::move(found->nft.foreign);
  return {};
}

void read_sysctls(Survey& survey) {
  survey.forwarding_ipv4 = is_on(kForwardingIpv4);
  survey.forwarding_ipv6 = is_on(kForwardingIpv6);
  survey.accepts_local_sources = is_on(kAcceptLocal);
  if (!survey.ipv6_available) {
    survey.warnings.emplace_back(
        "IPv6 is off on this host, so only IPv4 is intercepted (sysctl -w net.ipv6.conf.lo.disable_ipv6=0, where the "
        "kernel "
        "was not started with ipv6.disable=1)");
  }
  const auto lo = std::ranges::find(survey.links, "lo", &LinkInfo::name);
  if (lo != survey.links.end() && !lo->up) {
    survey.warnings.emplace_back("the loopback interface is down: no plan can be installed (ip link set lo up)");
  }
}

}  // namespace

Result<Survey> survey_kernel() {
  Survey survey;
  // Without ::1 there is no listener for IPv6, and the kernel refuses routes through lo: "IPv6 is disabled on nexthop
  // device".
  survey.ipv6_available = read_sysctl("net.ipv6.conf.lo.disable_ipv6").value_or("1") == "0";
  if (auto read = read_routing(survey); !read) return std::unexpected(read.error());
  if (auto read = read_installations(survey); !read) return std::unexpected(read.error());
  survey.named_tables = named_tables();
  read_sysctls(survey);
  read_client_ports(survey);
  for (const Disturbance& found : find_bridge_netfilter(survey.links)) survey.warnings.push_back(found.message());
  for (const Disturbance& found : find_strict_filtering(survey.routes)) survey.warnings.push_back(found.message());
  return survey;
}

Result<std::vector<std::string>> find_precedence_warnings(const Numbers& numbers) {
  auto socket = RouteSocket::open();
  if (!socket) return std::unexpected(socket.error());
  Survey survey;
  if (auto read = read_rules(*socket, survey); !read) return std::unexpected(read.error());
  return precedence_warnings(survey, numbers);
}

std::vector<std::string> scope_warnings(const Survey& survey, const Scope& scope, bool enable_forwarding) {
  std::vector<std::string> warnings;
  for (const std::string& name : scope.from_interfaces) {
    if (std::ranges::find(survey.links, name, &LinkInfo::name) == survey.links.end()) {
      warnings.push_back(
          fmt::format("--from {}: there is no such interface now; its traffic is intercepted as soon as it appears "
                      "(`ip link` lists what there is)",
                      name));
    }
  }
  // A host whose own traffic is meant need not be a router.
  if (enable_forwarding || scope.local) return warnings;
  const auto forwarding_is_off = [](std::string_view family, std::string_view key) {
    return fmt::format(
        "{} forwarding is off: what is not intercepted does not pass through this host (--enable-forwarding, or sysctl "
        "-w {}=1)",
        family, key);
  };
  if (scope.ipv4 && !survey.forwarding_ipv4) warnings.push_back(forwarding_is_off("IPv4", kForwardingIpv4));
  if (scope.ipv6 && survey.ipv6_available && !survey.forwarding_ipv6) {
    warnings.push_back(forwarding_is_off("IPv6", kForwardingIpv6));
  }
  return warnings;
}

}  // namespace limpid
