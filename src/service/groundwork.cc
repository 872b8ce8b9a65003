// Asks the kernel once, then decides.
#include "service/groundwork.h"

#include <fmt/format.h>

#include <cstddef>
#include <utility>

#include "net/port_owner.h"
#include "service/local_target.h"

namespace limpid {
namespace {

/// Programs with UDP ports in scope that are named at the start: enough to explain, where a wide range is in scope.
constexpr std::size_t kMostExplained = 5;

}  // namespace

SourceMode udp_source(const ServiceOptions& options) {
  const bool admits_strangers = options.udp.filtering == NatBehavior::endpoint_independent && !options.fixed_target;
  // Nor beside local traffic: a program of this host holds its port. Nor by eBPF, which cannot keep both legs out of conntrack.
  const bool prefers_port = options.source_is_default && admits_strangers && !options.interception.scope.local &&
                            options.interception.backends.front() != Backend::ebpf;
  return prefers_port ? SourceMode::prefer_port : options.source;
}

Result<Groundwork> lay_groundwork(const ServiceOptions& options) {
  auto survey = survey_kernel();
  if (!survey) return std::unexpected(survey.error());
  auto interception = options.interception;
  interception.keeps_source_port = keeps_port(options.source);
  if (!survey->ipv6_available && interception.scope.ipv6) {
    if (!interception.scope.ipv4) {
      return unsupported("--ipv6-only", "", "this host has IPv6 switched off",
                         "sysctl -w net.ipv6.conf.lo.disable_ipv6=0");
    }
    // The listener cannot exist; a fail-closed scope is refused for it later on, unless IPv6 is not forwarded either.
    const bool may_pass = survey->forwarding_ipv6 || interception.scope.local;
    if (interception.fail == FailMode::open || !may_pass) interception.scope.ipv6 = false;
  }
  for (const auto& found : survey->installations) {
    if (found.name == interception.name && found.ownership.keeper == Keeper::permanent) {
      return failure("start", interception.name, "`limpid rules apply` has installed rules of this name",
                     fmt::format("limpid rules remove --name {}, or give another --name", interception.name));
    }
  }
  auto backend = choose_backend(interception.backends, interception.scope);
  if (!backend) return std::unexpected(backend.error());
  interception.backends = {backend->backend};
  ServiceOptions with_backend = options;
  with_backend.interception.backends = interception.backends;
  interception.keeps_udp_port = keeps_port(udp_source(with_backend));
  auto numbers = choose_numbers(*survey, interception);
  if (!numbers) return std::unexpected(numbers.error());
  return Groundwork{std::move(*survey), std::move(interception), *numbers, std::move(*backend)};
}

void log_warnings(const Logger& log, const Groundwork& groundwork, bool enable_forwarding) {
  for (const auto& refused : groundwork.backend.refused) {
    log.warning("a backend cannot be used here, so another one is",
                {field("refused", refused), field("used", to_string(groundwork.backend.backend))});
  }
  for (const auto& warning : groundwork.survey.warnings) log.warning(warning);
  for (const auto& warning : fail_closed_warnings(groundwork.interception)) log.warning(warning);
  for (const auto& warning : precedence_warnings(groundwork.survey, groundwork.numbers)) log.warning(warning);
  for (const auto& warning : scope_warnings(groundwork.survey, groundwork.interception.scope, enable_forwarding)) {
    log.warning(warning);
  }
}

void explain_udp_servers(const Logger& log, const PortSet& ports) {
  if (ports.empty()) return;
  for (const auto& server : find_wildcard_udp_servers(ports, kMostExplained)) {
    log.info(
        "a program of this host has a UDP port in scope: what is addressed to this host stays its own, the rest is "
        "relayed",
        {field("port", server.port.value), field("process", server.process.empty() ? "-" : server.process)});
  }
}

Status adapt_to_target(ServiceOptions& options, const Logger& log) {
  if (!options.fixed_target) return {};
  const auto local = is_of_this_host(options.fixed_target->address);
  if (!local) return std::unexpected(local.error());
  if (!*local) return {};
  if (options.source == SourceMode::address_and_port) {
    return usage_error("--source", "address+port", "the target is on this host, which would answer the client past us",
                       "give --source none");
  }
  if (options.source != SourceMode::none) {
    log.warning("the target is on this host: it sees the host's own address, not the client's (--source none)");
    options.source = SourceMode::none;
  }
  return exclude_target(options.interception.scope, options.fixed_target->port, log);
}

}  // namespace limpid
