// One function for each condition: how it is read, and when it is met.
#include "policy/client_test.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <grp.h>
#include <pwd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <optional>
#include <utility>

#include "net/interface_name.h"

namespace limpid {
namespace {

using Arguments = std::vector<RuleArgument>;

constexpr unsigned kMostDscp = 63;

struct NamedDscp {
  std::string_view name;
  std::uint8_t value;
};
/// RFC 2474, 2597, 3246, 5865 and 8622.
constexpr std::array<NamedDscp, 24> kDscpNames{
    {{"be", 0},    {"cs0", 0},   {"cs1", 8},   {"cs2", 16},  {"cs3", 24},  {"cs4", 32},  {"cs5", 40},  {"cs6", 48},
     {"cs7", 56},  {"af11", 10}, {"af12", 12}, {"af13", 14}, {"af21", 18}, {"af22", 20}, {"af23", 22}, {"af31", 26},
     {"af32", 28}, {"af33", 30}, {"af41", 34}, {"af42", 36}, {"af43", 38}, {"ef", 46},   {"va", 44},   {"le", 1}}};

constexpr std::array<std::string_view, 7> kNames{"iif", "dscp", "mac", "uid", "cgroup", "gid", "process"};

std::optional<std::uint32_t> number_of(std::string_view text) noexcept {
  std::uint32_t value = 0;
  const int base = text.starts_with("0x") ? 16 : 10;
  if (base == 16) text.remove_prefix(2);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return error == std::errc{} && end == text.data() + text.size() && !text.empty() ? std::optional(value)
                                                                                   : std::nullopt;
}

Result<ClientTest> read_interfaces(const Arguments& given, const RuleLexer& lexer) {
  InterfaceIn test;
  for (const RuleArgument& argument : given) {
    auto name = validate_interface_name(argument.value);
    if (!name)
      return lexer.wrong(argument.column, fmt::format("{} {}", name.error().object, name.error().cause),
                         name.error().remedy);
    test.names.push_back(std::move(*name));
  }
  return test;
}

Result<ClientTest> read_dscp(const Arguments& given, const RuleLexer& lexer) {
  DscpIn test;
  for (const RuleArgument& argument : given) {
    const auto* named = std::ranges::find(kDscpNames, argument.value, &NamedDscp::name);
    const auto number =
        named != kDscpNames.end() ? std::optional<std::uint32_t>(named->value) : number_of(argument.value);
    if (!number || *number > kMostDscp)
      return lexer.wrong(argument.column, fmt::format("'{}' is no DSCP", argument.value),
                         "0 to 63, or a name: be, cs1 to cs7, af11 to af43, ef, va, le");
    test.values |= std::uint64_t{1} << *number;
  }
  return test;
}

std::optional<MacAddress> read_mac(std::string_view text) noexcept {
  constexpr std::size_t kTextLength = 17;
  MacAddress address{};
  if (text.size() != kTextLength) return std::nullopt;
  for (std::size_t i = 0; i < address.size(); ++i) {
    const char* const at = text.data() + i * 3;
    const auto [end, error] = std::from_chars(at, at + 2, address.at(i), 16);
    if (error != std::errc{} || end != at + 2 || (i + 1 < address.size() && at[2] != ':')) return std::nullopt;
  }
  return address;
}

Result<ClientTest> read_macs(const Arguments& given, const RuleLexer& lexer) {
  MacIn test;
  for (const RuleArgument& argument : given) {
    const auto address = read_mac(argument.value);
    if (!address)
      return lexer.wrong(argument.column, fmt::format("'{}' is no MAC address", argument.value),
                         "write mac(52:54:00:12:34:56)");
    test.addresses.push_back(*address);
  }
  std::ranges::sort(test.addresses);
  return test;
}

/// By the user database; empty: there is none of this name.
std::optional<std::uint32_t> user_number(const std::string& name) {
  std::array<char, 16384> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  if (getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return std::nullopt;
  return found->pw_uid;
}

std::optional<std::uint32_t> group_number(const std::string& name) {
  std::array<char, 65536> buffer{};  // with all its members
  group entry{};
  group* found = nullptr;
  if (getgrnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr)
    return std::nullopt;
  return found->gr_gid;
}

/// 1000, 1000-1999, or a name.
Result<RangeSet> read_ids(const Arguments& given, const RuleLexer& lexer, std::string_view kind,
                          std::optional<std::uint32_t> (*look_up)(const std::string&)) {
  std::vector<WideRange> ranges;
  for (const RuleArgument& argument : given) {
    const std::string_view text = argument.value;
    const auto dash = text.find('-');
    auto first = number_of(text.substr(0, dash));
    auto last = dash == std::string_view::npos ? first : number_of(text.substr(dash + 1));
    const bool is_range = first && last;
    if (!is_range) first = last = look_up(argument.value);
    if (!first)
      return lexer.wrong(argument.column, fmt::format("there is no {} '{}'", kind, text),
                         fmt::format("give its number, for example 1000, or 1000-1999"));
    if (*first > *last)
      return lexer.wrong(argument.column, fmt::format("'{}' ends before it begins", text), "write 1000-1999");
    ranges.push_back({.first = *first, .last = *last});
  }
  return RangeSet(std::move(ranges));
}

Result<ClientTest> read_cgroups(const Arguments& given, const RuleLexer& lexer) {
  constexpr std::string_view kMount = "/sys/fs/cgroup/";
  CgroupIn test;
  for (const RuleArgument& argument : given) {
    std::string path = argument.value;
    const bool has_mount = path.starts_with(kMount);
    if (!path.starts_with('/')) path.insert(0, 1, '/');
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    if (has_mount || path.contains("//") || (path + '/').contains("/../") || (path + '/').contains("/./"))
      return lexer.wrong(argument.column, fmt::format("'{}' is no path below the mount of cgroup v2", argument.value),
                         "as /proc/PID/cgroup has it behind 0::, for example cgroup(/system.slice/nginx.service)");
    test.paths.push_back(std::move(path));
  }
  return test;
}

Result<ClientTest> read_programs(const Arguments& given, const RuleLexer& lexer) {
  ProcessIn test;
  for (const RuleArgument& argument : given) {
    const bool has_slash = argument.value.contains('/');
    if (argument.value.empty() || argument.value.ends_with('/') || (has_slash && !argument.value.starts_with('/')))
      return lexer.wrong(argument.column,
                         fmt::format("'{}' is neither a program's file name nor its whole path", argument.value),
                         "write process(curl) or process(/usr/bin/curl)");
    test.programs.push_back(argument.value);
  }
  return test;
}

struct Evaluation {
  const ClientFacts& facts;
  bool operator()(const InterfaceIn& test) const noexcept {
    return !facts.interface.empty() && std::ranges::find(test.names, facts.interface) != test.names.end();
  }
  bool operator()(const DscpIn& test) const noexcept { return (test.values >> (facts.dscp & kMostDscp) & 1U) != 0; }
  bool operator()(const MacIn& test) const noexcept {
    return facts.mac && std::ranges::binary_search(test.addresses, *facts.mac);
  }
  bool operator()(const UserIn& test) const noexcept { return facts.user && test.users.contains(*facts.user); }
  bool operator()(const CgroupIn& test) const noexcept {
    const std::string_view own = facts.cgroup;
    if (own.empty()) return false;
    return std::ranges::any_of(test.paths, [&](const std::string& path) {
      return path == "/" || (own.starts_with(path) && (own.size() == path.size() || own[path.size()] == '/'));
    });
  }
  bool operator()(const GroupIn& test) const noexcept {
    return facts.process && test.groups.contains(facts.process->group);
  }
  bool operator()(const ProcessIn& test) const noexcept {
    if (!facts.process || facts.process->executable.empty()) return false;
    const std::string_view path = facts.process->executable;
    const std::string_view name = path.substr(path.find_last_of('/') + 1);
    return std::ranges::any_of(test.programs,
                               [&](const std::string& wanted) { return wanted == name || wanted == path; });
  }
};

}  // namespace

Fact fact_of(const ClientTest& test) noexcept {
  constexpr std::array kFacts{Fact::arrival, Fact::arrival, Fact::hardware, Fact::user,
                              Fact::cgroup,  Fact::process, Fact::process};
  static_assert(kFacts.size() == std::variant_size_v<ClientTest>);
  return kFacts.at(test.index());
}

bool is_met(const ClientTest& test, const ClientFacts& facts) noexcept {
  return std::visit(Evaluation{facts}, test);
}

bool is_client_test(std::string_view name) noexcept {
  return std::ranges::find(kNames, name) != kNames.end();
}

Result<ClientTest> read_client_test(std::string_view name, const Arguments& given, const RuleLexer& lexer) {
  if (name == "iif") return read_interfaces(given, lexer);
  if (name == "dscp") return read_dscp(given, lexer);
  if (name == "mac") return read_macs(given, lexer);
  if (name == "cgroup") return read_cgroups(given, lexer);
  if (name == "process") return read_programs(given, lexer);
  const bool users = name == "uid";
  auto ids = read_ids(given, lexer, users ? "user" : "group", users ? user_number : group_number);
  if (!ids) return std::unexpected(ids.error());
  if (users) return UserIn{std::move(*ids)};
  return GroupIn{std::move(*ids)};
}

std::string to_string(const MacAddress& address) {
  return fmt::format("{:02x}", fmt::join(address, ":"));
}

}  // namespace limpid
