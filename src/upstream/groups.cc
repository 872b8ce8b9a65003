// Groups that others are reached through come first, whatever their order in a file.
#include "upstream/groups.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace limpid {
namespace {

/// Without what a look-up of names has found, which is not the user's choice.
UpstreamGroupOptions as_written(UpstreamGroupOptions options) {
  for (Upstream& member : options.members) {
    member.on_this_host = false;
    if (is_named(member)) member.server.reset();
  }
  return options;
}

}  // namespace

Status check_via(const UpstreamGroupOptions& options, const std::vector<UpstreamGroupOptions>& groups) {
  if (options.via.empty()) return {};
  const auto via = std::ranges::find(groups, options.via, &UpstreamGroupOptions::name);
  if (via == groups.end())
    return usage_error("via", options.via, "there is no group of upstreams of this name",
                       fmt::format("add [upstreams.{}], or leave via out", options.via));
  if (!via->via.empty() || via->name == options.name)
    return usage_error("via", options.via, "that one is reached through another group itself: chains have two links",
                       "name a group without via");
  const auto wrong =
      std::ranges::find_if(via->members, [](const Upstream& member) { return !reaches_others(member.kind); });
  if (wrong == via->members.end()) return {};
  return usage_error("via", options.via,
                     fmt::format("{} of that group cannot be asked for a connection to another upstream", wrong->name),
                     "name a group with socks5, socks4, socks4a and http upstreams only");
}

Status check_group(const UpstreamGroupOptions& options) {
  const auto count = options.members.size();
  if (count == 0 || count > UpstreamGroup::kMostMembers) {
    return usage_error("upstreams", options.name, fmt::format("{} upstreams in one group", count),
                       fmt::format("1 to {}", UpstreamGroup::kMostMembers));
  }
  for (std::size_t i = 0; i < count; ++i) {
    const Upstream& member = options.members[i];
    for (std::size_t j = 0; j < i; ++j) {
      if (member.name == options.members[j].name)
        return usage_error("upstreams", member.name, "two upstreams of one group with this name",
                           "leave one out, or give it another: ?name=second");
    }
    if (!options.via.empty() && member.host.empty())
      return usage_error("upstreams", member.name, "it has no host, so it cannot be reached via others",
                         "give it a host, or leave via out");
    const bool bound = !member.interface.empty() || member.source || member.mark != 0;
    if (!options.via.empty() && bound)
      return usage_error("upstreams", member.name,
                         "it is reached via others, so interface, source and mark are theirs to say",
                         "write them there");
  }
  return {};
}

Status check_groups(const std::vector<UpstreamGroupOptions>& groups) {
  for (auto group = groups.begin(); group != groups.end(); ++group) {
    if (auto checked = check_group(*group); !checked) return checked;
    if (std::find_if(groups.begin(), group, [&](const auto& other) { return other.name == group->name; }) != group)
      return usage_error("upstreams", group->name, "there are two groups of this name", "rename one");
    if (auto checked = check_via(*group, groups); !checked) return checked;
  }
  return {};
}

std::uint16_t UpstreamGroups::find_same(const UpstreamGroupOptions& options, const UpstreamGroup* via) const noexcept {
  for (std::size_t i = 0; i < count_; ++i) {
    if (groups_[i]->via() == via && as_written(groups_[i]->options()) == options)
      return static_cast<std::uint16_t>(i + 1);
  }
  return 0;
}

Status UpstreamGroups::put_to_work(std::vector<UpstreamGroupOptions> groups) {
  if (auto checked = check_groups(groups); !checked) return checked;
  if (auto room = room_for(groups.size()); !room) return room;
  std::vector<std::uint16_t> numbers(groups.size(), 0);
  const auto place_of = [&](std::string_view name) {
    return static_cast<std::size_t>(std::ranges::find(groups, name, &UpstreamGroupOptions::name) - groups.begin());
  };
  for (const bool chained : {false, true}) {
    for (std::size_t i = 0; i < groups.size(); ++i) {
      const UpstreamGroupOptions& options = groups[i];
      if (options.via.empty() == chained) continue;
      UpstreamGroup* via = chained ? &at(numbers[place_of(options.via)]) : nullptr;
      numbers[i] = find_same(as_written(options), via);
      if (numbers[i] == 0) {
        auto group = std::make_unique<UpstreamGroup>(options, via);
        if (const auto before = find(options.name); before != 0) group->inherit(at(before));
        groups_[count_] = std::move(group);
        numbers[i] = static_cast<std::uint16_t>(++count_);
        continue;
      }
      for (unsigned member = 0; member < options.members.size(); ++member) {
        const Upstream& same = options.members[member];
        if (same.server)
          at(numbers[i]).move_server(member, {.address = *same.server, .on_this_host = same.on_this_host});
      }
    }
  }
  const std::lock_guard lock(mutex_);
  at_work_ = std::move(numbers);
  return {};
}

std::vector<std::uint16_t> UpstreamGroups::at_work() const {
  const std::lock_guard lock(mutex_);
  return at_work_;
}

Status UpstreamGroups::room_for(std::size_t groups) const {
  if (count_ + groups <= kMost) return {};
  return failure("upstreams", "", fmt::format("groups were changed {} times since the start", count_), "restart");
}

std::uint16_t UpstreamGroups::find(std::string_view name) const {
  for (const std::uint16_t number : at_work()) {
    if (at(number).options().name == name) return number;
  }
  return 0;
}

}  // namespace limpid
