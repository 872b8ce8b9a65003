// What the flags of `limpid run` are called, and what they mean.
#include "cli/run_flags.h"

#include <CLI/CLI.hpp>
#include <chrono>

#include "cli/duration.h"
#include "cli/flag_values.h"
#include "net/resolve.h"

namespace limpid {
namespace {

Status parse_confirm(const std::string& text, ServiceOptions& options) {
  if (text.empty()) return {};
  const auto confirm = parse_duration("--confirm", text);
  if (!confirm) return std::unexpected(confirm.error());
  options.confirm = std::chrono::duration_cast<std::chrono::seconds>(*confirm);
  if (options.confirm->count() == 0) return usage_error("--confirm", text, "too short to type anything", "write 30");
  return {};
}

Result<CutThroughMode> parse_cut_through(std::string_view text) {
  if (text == "off") return CutThroughMode::off;
  if (text == "auto") return CutThroughMode::automatic;
  if (text == "always") return CutThroughMode::always;
  return usage_error("--cut-through", text, "no such mode", "auto, off or always");
}

Result<NatBehavior> parse_behavior(std::string_view flag, std::string_view text) {
  if (text == "endpoint-independent") return NatBehavior::endpoint_independent;
  if (text == "address-and-port-dependent") return NatBehavior::address_and_port_dependent;
  return usage_error(flag, text, "no such behaviour", "endpoint-independent or address-and-port-dependent");
}

Status parse_udp(const RunFlags& flags, UdpOptions& udp) {
  const auto mapping = parse_behavior("--udp-mapping", flags.udp_mapping);
  if (!mapping) return std::unexpected(mapping.error());
  const auto filtering = parse_behavior("--udp-filtering", flags.udp_filtering);
  if (!filtering) return std::unexpected(filtering.error());
  udp.mapping = *mapping;
  udp.filtering = *filtering;
  struct Timeout {
    std::string_view flag;
    const std::string& text;
    std::chrono::milliseconds& value;
  };
  for (const auto& [flag, text, value] :
       {Timeout{"--udp-timeout", flags.udp_timeout, udp.timeouts.answered},
        Timeout{"--udp-unanswered-timeout", flags.udp_unanswered_timeout, udp.timeouts.unanswered},
        Timeout{"--udp-dns-timeout", flags.udp_dns_timeout, udp.timeouts.dns}}) {
    const auto duration = parse_duration(flag, text);
    if (!duration) return std::unexpected(duration.error());
    if (duration->count() == 0) return usage_error(flag, text, "a session needs some time", "write 30s");
    value = *duration;
  }
  const auto total = parse_count("--max-udp-sessions", flags.max_udp_sessions, 100'000'000);
  if (!total) return std::unexpected(total.error());
  const auto per_source = parse_count("--max-udp-sessions-per-source", flags.max_udp_sessions_per_source, 100'000'000);
  if (!per_source) return std::unexpected(per_source.error());
  udp.limits = {.total = *total, .per_source = *per_source};
  return {};
}

Status parse_sniffing(const RunFlags& flags, ServiceOptions& options) {
  const auto timeout = parse_duration("--sniff-timeout", flags.sniff_timeout);
  if (!timeout) return std::unexpected(timeout.error());
  if (timeout->count() == 0 || *timeout > std::chrono::seconds(30))
    return usage_error("--sniff-timeout", flags.sniff_timeout, "not a time in range", "1ms to 30s");
  options.timeouts.sniff = *timeout;
  const auto bytes = parse_count("--sniff-bytes", flags.sniff_bytes, kMostStreamBytes);
  if (!bytes) return std::unexpected(bytes.error());
  if (*bytes != 0) options.sniff_bytes = *bytes;
  options.dns_hint = flags.dns_hint;
  return {};
}

}  // namespace

Result<ServiceOptions> parse_run_flags(const RunFlags& flags) {
  auto request = parse_interception_flags(flags.interception);
  if (!request) return std::unexpected(request.error());
  ServiceOptions options;
  options.interception = std::move(request->options);
  options.enable_forwarding = request->enable_forwarding;
  options.source = request->source;
  options.source_is_default = request->source_is_default;
  if (flags.target != "original") {
    auto target = resolve_target(flags.target);
    if (!target) {
      Error error = std::move(target.error());
      if (error.kind == ErrorKind::usage) return wrong("--target", flags.target, error);
      error.operation = "--target";
      return std::unexpected(std::move(error));
    }
    if (SocketAddress::parse(flags.target)) {
      if (auto checked = check_dialled("--target", flags.target, *target); !checked)
        return std::unexpected(checked.error());
    }
    options.fixed_target = *target;
  }
  const auto settings = parse_relay_flags(flags.relay);
  if (!settings) return std::unexpected(settings.error());
  static_cast<RelaySettings&>(options) = *settings;
  if (auto parsed = parse_confirm(flags.confirm, options); !parsed) return std::unexpected(parsed.error());
  const auto repair = parse_repair(flags.repair);
  if (!repair) return std::unexpected(repair.error());
  options.repair = *repair;
  if (flags.sandbox != "on" && flags.sandbox != "off")
    return usage_error("--sandbox", flags.sandbox, "no such mode",
                       "on: the process that relays gives up what it does not need; off: it keeps all of its rights");
  options.sandbox = flags.sandbox == "on";
  const auto cut_through = parse_cut_through(flags.cut_through);
  if (!cut_through) return std::unexpected(cut_through.error());
  options.cut_through = *cut_through;
  options.cut_through_netfilter = flags.cut_through_netfilter;
  if (flags.cut_through_netfilter && *cut_through == CutThroughMode::off)
    return usage_error("--cut-through-netfilter", "", "nothing is cut through",
                       "add --cut-through auto, or leave it out");
  if (auto parsed = parse_sniffing(flags, options); !parsed) return std::unexpected(parsed.error());
  if (auto parsed = parse_udp(flags, options.udp); !parsed) return std::unexpected(parsed.error());
  if (!flags.udp_flag.empty() && options.interception.scope.udp.empty()) {
    return usage_error(flags.udp_flag, "", "no UDP is intercepted", "add --udp PORTS, or leave it out");
  }
  return options;
}

void add_run_flags(CLI::App& verb, const std::shared_ptr<RunFlags>& flags) {
  add_interception_flags(verb, flags->interception);
  verb.add_option("--target", flags->target, "Where to dial: original (what the client dialled) or HOST:PORT")
      ->type_name("TARGET");
  add_repair_flag(verb, flags->repair);
  verb.add_option("--cut-through", flags->cut_through,
                  "Let flows that are merely copied leave the proxy, forwarded by eBPF: auto (where possible),\n"
                  "off (the default) or always (an error where it is not possible)")
      ->type_name("auto|off|always");
  verb.add_flag("--cut-through-netfilter", flags->cut_through_netfilter,
                "Let packets of such flows pass through the host's forward chains (slower)");
  verb.add_option("--sandbox", flags->sandbox,
                  "Whether the process that relays gives up its rights: on or off (for systems on which that fails)")
      ->type_name("on|off")
      ->capture_default_str();
  verb.add_option("--confirm", flags->confirm, "Roll back unless confirmed on the terminal within this time")
      ->type_name("SECONDS");
  add_relay_flags(verb, flags->relay, /*datagrams=*/true);
  verb.add_option("--sniff-timeout", flags->sniff_timeout,
                  "Where a rule needs a name: how long a client's first bytes are waited for (300ms)")
      ->type_name("TIME")
      ->group("Rules");
  verb.add_option("--sniff-bytes", flags->sniff_bytes, "The same: how many of a connection are looked at (32768)")
      ->type_name("N")
      ->group("Rules");
  verb.add_flag("--dns-hint", flags->dns_hint,
                "The same: flows that say no name have that by which their client has learnt the address,\n"
                "out of DNS answers that are relayed; marked as name_source=dns-hint")
      ->group("Rules");
  const auto add_udp = [&](const std::string& name, std::string& value, const std::string& help) {
    return verb.add_option(name, value, help)->group("UDP")->each([given = &flags->udp_flag, name](const std::string&) {
      *given = name;
    });
  };
  add_udp("--udp-mapping", flags->udp_mapping,
          "What makes a session: endpoint-independent (the client alone, the default) or\n"
          "address-and-port-dependent (client and destination)")
      ->type_name("endpoint-independent|address-and-port-dependent");
  add_udp("--udp-filtering", flags->udp_filtering,
          "Who may answer: endpoint-independent (anybody, the default) or address-and-port-dependent\n"
          "(only whom the client has written to)")
      ->type_name("endpoint-independent|address-and-port-dependent");
  add_udp("--udp-timeout", flags->udp_timeout, "Silence that ends a session (300s)")->type_name("TIME");
  add_udp("--udp-unanswered-timeout", flags->udp_unanswered_timeout, "The same while nobody has answered (30s)")
      ->type_name("TIME");
  add_udp("--udp-dns-timeout", flags->udp_dns_timeout, "The same for answered sessions to port 53 (10s)")
      ->type_name("TIME");
  add_udp("--max-udp-sessions", flags->max_udp_sessions,
          "More than this: the least recently used ends; a quarter of the file descriptors if not given")
      ->type_name("N");
  add_udp("--max-udp-sessions-per-source", flags->max_udp_sessions_per_source, "The same for one client address (1024)")
      ->type_name("N");
}

}  // namespace limpid
