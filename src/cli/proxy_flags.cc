// Reads --for, and puts a profile's knowledge where the flags are silent.
#include "cli/proxy_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "cli/flag_values.h"

namespace limpid {
namespace {

Status check_source(const ProxyProfile& profile, InterceptionRequest& request) {
  if (request.source_is_default) {
    request.source = default_source(profile);
    return {};
  }
  if (can_be(profile, request.source)) return {};
  std::string possible;
  for (const SourceMode mode : {SourceMode::none, SourceMode::address, SourceMode::address_and_port}) {
    if (can_be(profile, mode))
      possible += fmt::format("{}{}", possible.empty() ? "--source " : " or ", to_string(mode));
  }
  return wrong("--source", to_string(request.source), fmt::format("{} cannot do that", profile.title), possible);
}

Status check_protocols(const ProxyProfile& profile, const InterceptionRequest& request) {
  if (request.options.scope.udp.empty() || profile.takes_datagrams) return {};
  return wrong("--udp", request.options.scope.udp.to_string(), fmt::format("{} takes connections only", profile.title),
               "`limpid run --udp` relays datagrams; --for custom is for a proxy that takes them");
}

/// Its own connections must not come back to it.
Status exclude_user(const ProxyProfile& profile, InterceptionRequest& request) {
  auto& local = request.options.scope.local;
  if (!local) return {};
  const auto user = profile.user.empty() ? std::nullopt : user_of_name(std::string(profile.user));
  if (user) {
    local->never.users.push_back({.first = *user, .last = *user});
    return {};
  }
  if (!local->never.empty() || !local->only.empty()) return {};
  const std::string why =
      profile.user.empty()
          ? fmt::format("{} runs as whoever starts it, and its own connections must not come back to it", profile.title)
          : fmt::format("there is no user {} here, as whom {} would run", profile.user, profile.title);
  return usage_error("--local", "", why, "name the user that it runs as, for example --exclude-uid proxy");
}

}  // namespace

void add_proxy_flag(CLI::App& verb, std::string& name) {
  std::string names;
  for (const ProxyProfile& profile : proxy_profiles())
    names += fmt::format("{}{}", names.empty() ? "" : "|", profile.name);
  verb.add_option("--for", name, "The proxy that they are for")->type_name(names)->group("How");
}

Result<const ProxyProfile*> parse_proxy(const std::string& name) {
  if (name.empty()) return nullptr;
  if (const ProxyProfile* found = find_proxy(name)) return found;
  return wrong("--for", name, "not a proxy that Limpid knows", fmt::format("one of {}", proxy_names()));
}

Status apply_profile(const ProxyProfile& profile, InterceptionRequest& request) {
  if (auto source = check_source(profile, request); !source) return source;
  if (auto protocols = check_protocols(profile, request); !protocols) return protocols;
  request.options.needs_conntrack = profile.asks_conntrack;
  request.options.guards_listener = profile.listens_anywhere;
  return exclude_user(profile, request);
}

ProxyRequest proxy_request(const Plan& plan, SourceMode source) {
  return {.listener = plan.inputs.ownership.listener,
          .ipv4 = plan.inputs.scope.ipv4,
          .ipv6 = plan.inputs.scope.ipv6,
          .source = source,
          .bypass_mark = plan.inputs.ownership.mark.bypass};
}

nlohmann::ordered_json setup_json(const ProxyProfile& profile, SourceMode source, const ProxySetup& setup) {
  auto files = nlohmann::ordered_json::array();
  for (const ProxyLines& file : setup.files) files.push_back({{"place", file.place}, {"lines", file.lines}});
  return {{"name", profile.name}, {"title", profile.title},   {"user", profile.user}, {"source", to_string(source)},
          {"files", files},       {"command", setup.command}, {"notes", setup.notes}};
}

}  // namespace limpid
