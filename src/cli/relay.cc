// limpid relay: the flags of a plain TCP relay, and their translation into PlainRelayOptions.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>

#include "cli/duration.h"
#include "cli/flag_values.h"
#include "cli/interception_flags.h"
#include "cli/relay_flags.h"
#include "cli/verb.h"
#include "net/resolve.h"
#include "service/plain_relay.h"

namespace limpid {
namespace {

constexpr std::string_view kUsage = "limpid relay LISTEN-PORT HOST [PORT]";

struct PlainRelayFlags {
  RelayFlags relay;
  std::optional<std::string> listen_port;
  std::optional<std::string> host;
  std::optional<std::string> port;
  std::vector<std::string> targets;
  std::vector<std::string> listen_addresses;
  std::optional<std::string> source;
  std::optional<std::string> mark;
  std::optional<std::string> root_directory;
  std::string resolve_interval = "30s";
  bool ipv4 = false;
  bool ipv6 = false;
  bool fast_open = false;
  bool once = false;
  bool loop = false;
  bool transparent = false;
  bool round_robin = false;
};

/// `typed` is the whole word, of which `port` may be the end.
Result<Port> parse_port(std::string_view what, std::string_view typed, std::string_view port) {
  const auto number = parse_number(what, port, 1, 65535, "a port");
  if (!number) return wrong(what, typed, number.error());
  return Port{static_cast<std::uint16_t>(*number)};
}

Result<std::string> parse_host(std::string_view what, std::string_view typed, std::string_view host) {
  const bool strange = std::ranges::any_of(host, [](char c) { return c <= ' ' || c > '~' || c == '/'; });
  if (host.empty() || strange) return wrong(what, typed, "not a host", "a name or an address");
  if (const auto address = literal_address(host)) {
    if (auto checked = check_dialled(what, typed, *address); !checked) return std::unexpected(checked.error());
  }
  return std::string(without_brackets(host));
}

/// HOST, HOST:PORT, an IPv6 address as it is, or in brackets with or without a port.
Result<TargetName> parse_target(std::string_view typed, Port usual_port) {
  std::string_view host = typed;
  std::optional<std::string_view> port;
  if (typed.starts_with('[')) {
    const auto bracket = typed.find(']');
    const auto behind = bracket == std::string_view::npos ? "?" : typed.substr(bracket + 1);
    if (!behind.empty() && !behind.starts_with(':')) {
      return wrong("--target", typed, "not HOST[:PORT]", "write [2001:db8::1]:80");
    }
    host = typed.substr(1, bracket - 1);
    if (!behind.empty()) port = behind.substr(1);
  } else if (std::ranges::count(typed, ':') == 1) {
    host = typed.substr(0, typed.find(':'));
    port = typed.substr(typed.find(':') + 1);
  }
  auto name = parse_host("--target", typed, host);
  if (!name) return std::unexpected(name.error());
  TargetName target{.host = std::move(*name), .port = usual_port};
  if (port) {
    const auto number = parse_port("--target", typed, *port);
    if (!number) return std::unexpected(number.error());
    target.port = *number;
  }
  return target;
}

Status parse_operands(const PlainRelayFlags& flags, PlainRelayOptions& options) {
  if (!flags.listen_port || !flags.host) {
    return usage_error("relay", "", flags.listen_port ? "no HOST given" : "no LISTEN-PORT given", kUsage);
  }
  const auto listen_port = parse_port("LISTEN-PORT", *flags.listen_port, *flags.listen_port);
  if (!listen_port) return std::unexpected(listen_port.error());
  options.port = *listen_port;
  const auto port = flags.port ? parse_port("PORT", *flags.port, *flags.port) : listen_port;
  if (!port) return std::unexpected(port.error());
  const auto command = fmt::format("limpid relay {}", listen_port->value);
  if (auto apart = refuse_port("HOST", *flags.host, command); !apart) return apart;
  auto host = parse_host("HOST", *flags.host, *flags.host);
  if (!host) return std::unexpected(host.error());
  options.targets.push_back({.host = std::move(*host), .port = *port});
  for (const auto& typed : flags.targets) {
    auto target = parse_target(typed, *port);
    if (!target) return std::unexpected(target.error());
    options.targets.push_back(std::move(*target));
  }
  return {};
}

Status parse_listen_addresses(const PlainRelayFlags& flags, PlainRelayOptions& options) {
  if (flags.ipv4 && flags.ipv6) {
    return usage_error("-4 -6", "", "they contradict each other", "give one of them, or none for both families");
  }
  options.ipv4 = !flags.ipv6;
  options.ipv6 = !flags.ipv4;
  for (const auto& typed : flags.listen_addresses) {
    const auto found = resolve_host(typed, std::nullopt, /*numeric=*/true);
    if (!found) return wrong("--listen-address", typed, found.error());
    const auto& address = found->front();
    if (!(address.family() == Family::ipv4 ? options.ipv4 : options.ipv6)) {
      return wrong("--listen-address", typed, fmt::format("an {} address", to_string(address.family())),
                   "leave out -4 and -6: the address says which it is");
    }
    if (auto checked = check_scope("--listen-address", typed, address); !checked) return checked;
    if (std::ranges::find(options.listen_addresses, address) != options.listen_addresses.end()) {
      return wrong("--listen-address", typed, "given twice", "leave one of them out");
    }
    options.listen_addresses.push_back(address);
  }
  return {};
}

Status parse_source_flags(const PlainRelayFlags& flags, PlainRelayOptions& options) {
  options.transparent = flags.transparent;
  options.source = flags.transparent ? SourceMode::address : SourceMode::none;
  if (flags.source) {
    const auto source = parse_source(*flags.source);
    if (!source) return std::unexpected(source.error());
    options.source = *source;
    if (!flags.transparent && options.source != SourceMode::none) {
      return usage_error("--source", *flags.source, "without --tproxy targets see this host's own address",
                         "add --tproxy; rules must bring the targets' answers back here: limpid rules apply");
    }
  }
  if (!flags.mark) return {};
  const auto mark = parse_socket_mark("--mark", *flags.mark);
  if (!mark) return std::unexpected(mark.error());
  options.mark = *mark;
  return {};
}

Result<PlainRelayOptions> parse_flags(const PlainRelayFlags& flags) {
  PlainRelayOptions options;
  const auto settings = parse_relay_flags(flags.relay);
  if (!settings) return std::unexpected(settings.error());
  static_cast<RelaySettings&>(options) = *settings;
  if (auto parsed = parse_operands(flags, options); !parsed) return std::unexpected(parsed.error());
  if (auto parsed = parse_listen_addresses(flags, options); !parsed) return std::unexpected(parsed.error());
  if (auto parsed = parse_source_flags(flags, options); !parsed) return std::unexpected(parsed.error());
  const auto interval = parse_duration("--resolve-interval", flags.resolve_interval);
  if (!interval) return std::unexpected(interval.error());
  constexpr std::chrono::milliseconds kShortest{100};
  if (interval->count() != 0 && *interval < kShortest) {
    return usage_error("--resolve-interval", flags.resolve_interval, "too short", "at least 100ms, or 0 for never");
  }
  // poll(2) counts milliseconds in an int.
  options.resolve_interval = std::min<std::chrono::milliseconds>(*interval, std::chrono::hours(24));
  if (flags.once && flags.loop) return usage_error("--loop", "", "it contradicts --once", "give only one of them");
  options.once = flags.once;
  options.fast_open = flags.fast_open;
  options.order = flags.round_robin ? TargetOrder::round_robin : TargetOrder::as_given;
  options.root_directory = flags.root_directory;
  if (options.root_directory && options.root_directory->empty()) {
    return usage_error("--chroot", "\"\"", "it is empty", "name a directory, best an empty one");
  }
  return options;
}

int relay(const PlainRelayFlags& flags) {
  const auto options = parse_flags(flags);
  if (!options) return report(options.error());
  const auto served = run_plain_relay(*options);
  return served ? kExitDone : report(served.error());
}

}  // namespace

void add_relay_verb(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand("relay", "Relay TCP connections to this port to another host; installs nothing");
  verb->footer(
      "Examples:\n"
      "  limpid relay 8080 www.example.org 80\n"
      "  limpid relay 8080 192.0.2.10 80 --target 192.0.2.11 --target [2001:db8::12]:8000\n"
      "  limpid relay --tproxy 50080 192.0.2.10 80     behind rules of limpid rules apply");
  auto flags = std::make_shared<PlainRelayFlags>();
  constexpr auto kTargets = "Targets";
  constexpr auto kTransparent = "Transparency (needs CAP_NET_ADMIN)";
  const auto add_list = [&](const std::string& name, std::vector<std::string>& values, const std::string& help) {
    return verb->add_option(name, values, help)->allow_extra_args(false);
  };
  verb->add_option("listen-port", flags->listen_port, "Where to listen")->type_name("LISTEN-PORT");
  verb->add_option("host", flags->host, "Whom to dial: a name or an address of either family")->type_name("HOST");
  verb->add_option("port", flags->port, "Where to dial; LISTEN-PORT if not given")->type_name("PORT");
  verb->add_flag("-4", flags->ipv4, "Listen for IPv4 only; the target may be of either family");
  verb->add_flag("-6", flags->ipv6, "Listen for IPv6 only");
  add_list("-L,--listen-address", flags->listen_addresses, "Listen on this address only; repeatable")
      ->type_name("ADDRESS");
  verb->add_flag("-f,--fastopen", flags->fast_open, "TCP Fast Open, towards clients and targets");
  verb->add_flag("-l,--loop", flags->loop, "Serve one connection after the other: what it does anyway");
  verb->add_flag("--once", flags->once, "Serve one connection; its end is the exit status");
  verb->add_option("--chroot", flags->root_directory, "Once it listens: change root to this directory, become nobody")
      ->type_name("DIR");
  add_list("--target", flags->targets, "Another target, for when those before it cannot be reached; repeatable")
      ->type_name("HOST[:PORT]")
      ->group(kTargets);
  verb->add_flag("--round-robin", flags->round_robin, "Begin each connection with the next target")->group(kTargets);
  verb->add_option("--resolve-interval", flags->resolve_interval, "Resolve names again this often; 0: never (30s)")
      ->type_name("TIME")
      ->group(kTargets);
  verb->add_flag("-t,--tproxy", flags->transparent, "Take connections that tproxy rules bring, and dial as the client")
      ->group(kTransparent);
  verb->add_option("--source", flags->source,
                   "What the target sees as source: none, address (with --tproxy the default), address+port or "
                   "prefer-port")
      ->type_name("none|address|address+port|prefer-port")
      ->group(kTransparent);
  verb->add_option("--mark", flags->mark, "Packet mark of all our sockets")->type_name("MARK")->group(kTransparent);
  add_relay_flags(*verb, flags->relay, /*datagrams=*/false);
  verb->callback([flags, &action] { action = [flags] { return relay(*flags); }; });
}

}  // namespace limpid
