// The service: `limpid run`. The only place where relay and interception meet: listeners first, then the plan; and
// backwards at the end.
#pragma once

#include <chrono>
#include <expected>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "limpid/error.h"
#include "limpid/interception.h"
#include "policy/decision.h"
#include "policy/rule.h"
#include "relay/udp_engine.h"
#include "service/cut_through.h"
#include "service/plan_guard.h"
#include "service/settings.h"

namespace limpid {

struct ServiceOptions : RelaySettings {
  InterceptionOptions interception;  ///< listener port 0: chosen
  bool enable_forwarding = false;    ///< switch net.ipv4.ip_forward and its IPv6 twin on, and back at the end
  SourceMode source = SourceMode::address;
  bool source_is_default = false;  ///< nobody asked for `source`: datagrams keep the client's port where that is safe
  std::optional<SocketAddress> fixed_target;
  UdpOptions udp;  ///< policy and mark are filled in
  std::optional<std::chrono::seconds> confirm;
  Repair repair = Repair::on;
  CutThroughMode cut_through = CutThroughMode::off;
  bool cut_through_netfilter = false;  ///< netfilter sees what was cut through as forwarded packets
  std::vector<Rule> rules{};
  std::size_t sniff_bytes = kMostStreamBytes;
  bool sandbox = true;  ///< the process that relays gives up what it does not need; only `--sandbox off` says otherwise
  bool dns_hint = false;  ///< names are learnt out of DNS answers that are relayed, for flows that say none
  /// From a configuration: reads it anew, and all mistakes with it. SIGHUP and `limpid reload` ask for it; without it SIGHUP ends the service.
  std::function<std::expected<ServiceOptions, std::vector<Error>>()> load{};
  std::map<std::string, std::vector<std::string>> settings{};  ///< as given, by flag: what a reload may not change
  std::string config_file{};                                   ///< empty: none
  std::string description{};                                   ///< the configuration as JSON, for `limpid diff`
};

/// Runs until SIGTERM, SIGINT or (without a configuration) SIGHUP, drains and removes what it installed; a second signal ends the drain at once.
/// SIGUSR1 logs the counters. Must be called from a program's only thread: it blocks signals for all that follow.
[[nodiscard]] Status run_service(const ServiceOptions& wanted);

/// What run_service() would install, as commands (`--dry-run`). Changes nothing and needs no privileges.
[[nodiscard]] Result<std::string> describe_service(const ServiceOptions& wanted);

}  // namespace limpid
