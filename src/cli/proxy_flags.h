// --for PROXY: what a proxy that Limpid knows changes about the other flags, and what is printed about it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "cli/interception_flags.h"
#include "intercept/plan.h"
#include "proxies/profile.h"
#include "proxies/setup.h"

namespace limpid {

void add_proxy_flag(CLI::App& verb, std::string& name);

/// The profile of that name; nullptr where none was given.
[[nodiscard]] Result<const ProxyProfile*> parse_proxy(const std::string& name);

/// Fills in what the flags leave open, and refuses what the proxy cannot do: its source mode, its protocols, its user where local
/// traffic is in scope.
[[nodiscard]] Status apply_profile(const ProxyProfile& profile, InterceptionRequest& request);

/// What the proxy has to be told so that it fits the plan.
[[nodiscard]] ProxyRequest proxy_request(const Plan& plan, SourceMode source);

/// docs/rules.md has the schema.
[[nodiscard]] nlohmann::ordered_json setup_json(const ProxyProfile& profile, SourceMode source,
                                                const ProxySetup& setup);

}  // namespace limpid
