// Read, compare, check, install, swap: in this order, so that each step can fail without a trace.
#include "service/reload.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "service/bypass.h"
#include "service/client_rights.h"
#include "service/local_target.h"

namespace limpid {
namespace {

/// What only the plan says, and groups of upstreams. Everything else is in sockets, threads or numbers.
constexpr std::array<std::string_view, 14> kReloadable{"tcp",
                                                       "udp",
                                                       "from",
                                                       "to-net",
                                                       "exclude",
                                                       "geoip-database",
                                                       "asn-database",
                                                       "upstream",
                                                       "upstream-choice",
                                                       "upstream-down",
                                                       "upstream-timeout",
                                                       "upstream-check",
                                                       "upstream-check-target",
                                                       "upstream-udp"};

std::vector<std::string> changed_for_good(const ServiceOptions& running, const ServiceOptions& wanted) {
  std::vector<std::string> changed;
  const auto compare = [&](const auto& one, const auto& other) {
    for (const auto& [key, values] : one) {
      const auto found = other.find(key);
      if ((found == other.end() || found->second != values) && !is_reloadable(key) &&
          std::ranges::find(changed, key) == changed.end()) {
        changed.push_back(key);
      }
    }
  };
  compare(running.settings, wanted.settings);
  compare(wanted.settings, running.settings);
  return changed;
}

Status require_listeners(const Scope& running, const Scope& wanted) {
  for (const auto& [flag, before, after] :
       {std::tuple{"tcp", &running.tcp, &wanted.tcp}, std::tuple{"udp", &running.udp, &wanted.udp}}) {
    if (before->empty() == after->empty()) continue;
    return failure(
        "reload", flag,
        after->empty() ? "no port would be left, and its listeners would stay" : "the service has no listener for it",
        "restart: its listeners are opened at the start");
  }
  return {};
}

}  // namespace

bool is_reloadable(std::string_view setting) noexcept {
  return std::ranges::find(kReloadable, setting) != kReloadable.end();
}

bool is_reloadable(std::string_view setting, const std::vector<std::string>& before,
                   const std::vector<std::string>& after) noexcept {
  // Ports may change, but who listens for a transport does so from the start: require_listeners().
  const bool decides_on_listeners = setting == "tcp" || setting == "udp";
  return is_reloadable(setting) && (!decides_on_listeners || before.empty() == after.empty());
}

Status adapt_to_rules(ServiceOptions& options, const Logger& log) {
  for (Rule& rule : options.rules) {
    if (rule.action == FlowAction::via &&
        std::ranges::find(options.upstreams, rule.group, &UpstreamGroupOptions::name) == options.upstreams.end())
      return usage_error("rules", fmt::format("via({})", rule.group), "there is no such group of upstreams");
    if (!rule.target) continue;
    const auto local = is_of_this_host(rule.target->address);
    if (!local) return std::unexpected(local.error());
    rule.target_on_this_host = *local;
    if (!*local) continue;
    if (auto excluded = exclude_target(options.interception.scope, rule.target->port, log); !excluded) return excluded;
  }
  const auto relayed =
      apply_bypass(options.rules, options.interception.scope, most_bypass_networks(options.interception.backends));
  for (const RelayedBypass& bypass : relayed) {
    log.info("this bypass rule is obeyed by relaying directly, not in the kernel",
             {field("rule", bypass.rule + 1), field("cause", bypass.cause)});
  }
  if (is_empty(options.interception.scope)) {
    return usage_error("rules", "", "they bypass everything that would be intercepted",
                       "intercept more, or leave a bypass rule out");
  }
  return {};
}

Status check_leg_marks(const std::vector<Rule>& rules, const MarkField& field) {
  for (const Rule& rule : rules) {
    if (!rule.leg || (rule.leg->mark & field.mask) == 0) continue;
    const std::uint32_t free = rule.leg->mark & ~field.mask;
    return usage_error(
        "rules", fmt::format("\"{}\"", rule.text),
        fmt::format("its mark {:#x} has a bit of {:#x}, the field that Limpid itself uses", rule.leg->mark, field.mask),
        free != 0 ? fmt::format("write mark: {:#x}, or move the field with --mark", free)
                  : "take another bit, or move the field with --mark");
  }
  return {};
}

Result<Plan> prepare_reload(const ServiceOptions& running, const Plan& plan, ServiceOptions& wanted,
                            const Logger& log) {
  if (const auto changed = changed_for_good(running, wanted); !changed.empty()) {
    return failure("reload", fmt::format("{}", fmt::join(changed, ", ")), "cannot be changed while the service runs",
                   "restart it, or put the old value back");
  }
  if (auto free = check_leg_marks(wanted.rules, plan.inputs.ownership.mark); !free)
    return std::unexpected(free.error());
  Scope& scope = wanted.interception.scope;
  scope.local = plan.inputs.scope.local;
  if (auto adapted = adapt_to_rules(wanted, log); !adapted) return std::unexpected(adapted.error());
  if (auto adapted = exclude_upstreams(wanted, scope, log); !adapted) return std::unexpected(adapted.error());
  scope.ipv4 = plan.inputs.scope.ipv4;
  scope.ipv6 = plan.inputs.scope.ipv6;
  if (auto same = require_listeners(plan.inputs.scope, scope); !same) return std::unexpected(same.error());
  PlanInputs inputs = plan.inputs;
  inputs.scope = scope;
  return make_plan(inputs);
}

Reloader::Reloader(ServiceOptions options, Plan& plan, RulesKeeper& keeper, std::shared_ptr<CurrentRules> book,
                   Upstreams& upstreams, NameLookups* names, const Logger& log)
    : options_(std::move(options)),
      plan_(plan),
      keeper_(keeper),
      book_(std::move(book)),
      upstreams_(upstreams),
      names_(names),
      log_(log) {}

std::vector<Error> Reloader::reload() {
  auto errors = try_reload();
  for (const Error& error : errors) log_.error("reload", {field("error", error.message())});
  if (!errors.empty()) log_.warning("not reloaded: everything is as it was before");
  return errors;
}

std::vector<Error> Reloader::try_reload() {
  if (!options_.load) {
    return {
        failure("reload", "", "this instance was started without a configuration", "restart it with -c FILE").error()};
  }
  auto loaded = options_.load();
  if (!loaded) return std::move(loaded.error());
  ServiceOptions& wanted = *loaded;
  auto next = prepare_reload(options_, plan_, wanted, log_);
  if (!next) return {next.error()};
  if (auto checked = upstreams_.check(wanted); !checked) return {checked.error()};
  const bool plan_changed = render_json(*next) != render_json(plan_);
  if (plan_changed || in_doubt_) {
    const auto installed = keeper_.reload(*next);
    in_doubt_ = !installed && (in_doubt_ || installed.error().code == ETIMEDOUT);
    if (!installed) return {installed.error()};
    plan_ = std::move(*next);
  }
  // First the groups, then the rules that name them: a flow in between finds what either list says.
  if (auto taken = upstreams_.take_over(wanted); !taken) return {taken.error()};
  upstreams_.number(wanted.rules);
  // What is in scope has changed by now, so names lead nowhere else before the rules do that rely on it.
  if (names_ != nullptr) names_->restrict_to(wanted.interception.scope.to_prefixes, wanted.interception.scope.excluded);
  book_->replace(wanted.rules);
  warn_of_missing_rights(book_->current()->asks_for(), log_);
  log_.info("reloaded",
            {field("rules", wanted.rules.size()), field("kernel_rules", plan_changed ? "changed" : "kept")});
  options_ = std::move(wanted);
  return {};
}

}  // namespace limpid
