// Reads the flags that choose among this host's own programs.
#include "cli/program_flags.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "cli/flag_values.h"
#include "intercept/local_traffic.h"

namespace limpid {
namespace {

using IdLookup = std::optional<std::uint32_t> (*)(const std::string& name);

/// "1000", "1000-1999" or a name that `lookup` knows.
Result<IdRange> parse_ids(std::string_view flag, const std::string& item, std::string_view what, IdLookup lookup) {
  constexpr std::uint32_t kMostId = std::numeric_limits<std::uint32_t>::max() - 1;  // the last one means "none"
  const std::string_view text = item;
  if (text.find_first_not_of("0123456789-") != std::string_view::npos) {
    if (const auto id = lookup(item)) return IdRange{.first = *id, .last = *id};
    return wrong(flag, item, fmt::format("no {} of that name", what),
                 "give a name that `getent` knows, a number, or a range like 1000-1999");
  }
  const auto dash = text.find('-');
  auto first = parse_number(flag, text.substr(0, dash), 0, kMostId, fmt::format("a {}'s number", what));
  if (!first) return std::unexpected(first.error());
  if (dash == std::string_view::npos) return IdRange{.first = *first, .last = *first};
  auto last =
      parse_number(flag, text.substr(dash + 1), *first, kMostId, fmt::format("the end of a range of {}s", what));
  if (!last) return std::unexpected(last.error());
  return IdRange{.first = *first, .last = *last};
}

Result<std::vector<IdRange>> parse_id_list(const std::string& flag, const std::vector<std::string>& values,
                                           std::string_view what, IdLookup lookup) {
  const auto items = items_of(flag, values);
  if (!items) return std::unexpected(items.error());
  std::vector<IdRange> ids;
  for (const std::string& item : *items) {
    const auto range = parse_ids(flag, item, what, lookup);
    if (!range) return std::unexpected(range.error());
    ids.push_back(*range);
  }
  return ids;
}

Status parse_programs(std::string_view prefix, const std::vector<std::string>& users,
                      const std::vector<std::string>& groups, const std::vector<std::string>& cgroups,
                      Programs& programs) {
  auto user_ids = parse_id_list(fmt::format("--{}uid", prefix), users, "user", user_of_name);
  if (!user_ids) return std::unexpected(user_ids.error());
  programs.users = std::move(*user_ids);
  auto group_ids = parse_id_list(fmt::format("--{}gid", prefix), groups, "group", group_of_name);
  if (!group_ids) return std::unexpected(group_ids.error());
  programs.groups = std::move(*group_ids);
  for (std::string cgroup : cgroups) {
    // /proc/PID/cgroup writes "/user.slice", shells complete "user.slice/".
    if (cgroup.starts_with('/')) cgroup.erase(0, 1);
    if (cgroup.ends_with('/')) cgroup.pop_back();
    if (auto valid = validate_cgroup(cgroup); !valid)
      return wrong(fmt::format("--{}cgroup", prefix), cgroup, valid.error());
    programs.cgroups.push_back(std::move(cgroup));
  }
  return {};
}

/// The first that chooses among programs.
std::string_view given_flag(const ProgramFlags& flags) {
  using Values = std::vector<std::string>;
  const std::array<std::pair<std::string_view, const Values&>, 6> all = {{{"--uid", flags.uid},
                                                                          {"--gid", flags.gid},
                                                                          {"--cgroup", flags.cgroup},
                                                                          {"--exclude-uid", flags.exclude_uid},
                                                                          {"--exclude-gid", flags.exclude_gid},
                                                                          {"--exclude-cgroup", flags.exclude_cgroup}}};
  for (const auto& [name, values] : all) {
    if (!values.empty()) return name;
  }
  return "--local";
}

}  // namespace

std::optional<std::uint32_t> group_of_name(const std::string& name) {
  const group* entry =
      ::getgrnam(name.c_str());  // NOLINT(concurrency-mt-unsafe): flags are read before any thread starts
  return entry == nullptr ? std::nullopt : std::optional(entry->gr_gid);
}

std::optional<std::uint32_t> user_of_name(const std::string& name) {
  const passwd* entry =
      ::getpwnam(name.c_str());  // NOLINT(concurrency-mt-unsafe): flags are read before any thread starts
  return entry == nullptr ? std::nullopt : std::optional(entry->pw_uid);
}

void add_program_flags(CLI::App& verb, ProgramFlags& flags) {
  constexpr auto kLocal = "This host's own traffic";
  const auto add_programs = [&](const std::string& name, std::vector<std::string>& values, const std::string& help) {
    return verb.add_option(name, values, help)->allow_extra_args(false)->group(kLocal);
  };
  verb.add_flag("--local", flags.local, "Intercept what this host's own programs send, too")->group(kLocal);
  verb.add_flag("--local-only", flags.local_only, "The same, without what others send through this host")
      ->group(kLocal);
  add_programs("--uid", flags.uid, "Only programs that run as this user; repeatable")->type_name("USER");
  add_programs("--gid", flags.gid, "Or as this group; repeatable")->type_name("GROUP");
  add_programs("--cgroup", flags.cgroup, "Or in this cgroup, as systemd-cgls shows it; repeatable")->type_name("PATH");
  add_programs("--exclude-uid", flags.exclude_uid, "Never programs that run as this user; repeatable")
      ->type_name("USER");
  add_programs("--exclude-gid", flags.exclude_gid, "Nor as this group; repeatable")->type_name("GROUP");
  add_programs("--exclude-cgroup", flags.exclude_cgroup, "Nor in this cgroup; repeatable")->type_name("PATH");
}

Status parse_program_flags(const ProgramFlags& flags, Scope& scope) {
  LocalScope local;
  if (auto only = parse_programs("", flags.uid, flags.gid, flags.cgroup, local.only); !only) return only;
  if (auto never = parse_programs("exclude-", flags.exclude_uid, flags.exclude_gid, flags.exclude_cgroup, local.never);
      !never) {
    return never;
  }
  scope.forwarded = !flags.local_only;
  if (flags.local || flags.local_only) {
    scope.local = std::move(local);
  } else if (!local.only.empty() || !local.never.empty()) {
    return usage_error(given_flag(flags), "", "it chooses among this host's own programs, which are not intercepted",
                       "give --local too (or --local-only, without forwarded traffic)");
  }
  return {};
}

}  // namespace limpid
