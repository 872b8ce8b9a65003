// Reads netcat's flags. Where the many netcats differ, what is accepted here says so in docs/nc.md.
#include "cli/nc_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>

#include "cli/duration.h"
#include "cli/flag_values.h"
#include "intercept/plan.h"
#include "net/resolve.h"
#include "netcat/words.h"

namespace limpid {
namespace {

/// 0 lets the kernel choose one.
Result<Port> parse_port(std::string_view flag, std::string_view typed) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(typed.data(), typed.data() + typed.size(), value);
  if (error != std::errc{} || end != typed.data() + typed.size() || value > 65535) {
    return wrong(flag, typed, "not a port", "give a number from 1 to 65535, or 0 for any that is free");
  }
  return Port{static_cast<std::uint16_t>(value)};
}

Status parse_addresses(const NcFlags& flags, NetcatOptions& options) {
  if (flags.ipv4 && flags.ipv6)
    return usage_error("-4 -6", "", "they contradict each other", "give one of them, or none");
  if (flags.ipv4) options.family = Family::ipv4;
  if (flags.ipv6) options.family = Family::ipv6;
  if (!flags.source) return {};
  if (flags.source->empty()) return usage_error("-s", "\"\"", "it is empty", "write 192.0.2.1 or 2001:db8::1");
  const auto source = resolve_host(*flags.source, std::nullopt, /*numeric=*/true);
  if (!source) return wrong("-s", *flags.source, source.error());
  options.source = source->front();
  if (options.family && *options.family != options.source->family()) {
    return wrong("-s", *flags.source, fmt::format("not an {} address", to_string(*options.family)),
                 "leave out -4 and -6: the address says which it is");
  }
  options.family = options.source->family();
  return {};
}

Status parse_times(const NcFlags& flags, NetcatOptions& options) {
  if (flags.idle) {
    const auto idle = parse_duration("-w", *flags.idle);
    if (!idle) return std::unexpected(idle.error());
    if (idle->count() == 0) return usage_error("-w", "0", "nothing can happen in no time", "write 5, or 500ms");
    options.limits.idle = *idle;
    options.connect_timeout = *idle;
  }
  if (flags.linger) {
    const auto linger = parse_duration("-q", *flags.linger);
    if (!linger) return std::unexpected(linger.error());
    options.limits.linger = *linger;
  }
  options.limits.finish_after_input = flags.finish;
  return {};
}

Status parse_program(const NcFlags& flags, NetcatOptions& options) {
  if (flags.program && flags.command) {
    return wrong("-c", *flags.command, "it contradicts -e", "give one of them");
  }
  if (flags.command) {
    auto words = split_words(*flags.command);
    if (!words) return wrong("-c", *flags.command, words.error());
    options.program = std::move(*words);
  }
  if (flags.program) {
    if (flags.program->empty()) return usage_error("-e", "\"\"", "it is empty", "name a program");
    options.program = {*flags.program};
  }
  return {};
}

/// Without a shell the arguments of -e must stand somewhere: they follow our own operands.
Result<std::vector<std::string>> take_operands(const NcFlags& flags, NetcatOptions& options) {
  std::vector<std::string> words;
  if (flags.first) words.push_back(*flags.first);
  if (flags.second) words.push_back(*flags.second);
  words.insert(words.end(), flags.rest.begin(), flags.rest.end());
  const std::size_t most = !flags.listen ? 2 : flags.source_port ? 0 : 1;
  if (words.size() <= most) return words;
  if (!flags.program) {
    return wrong("", words[most], "one argument too many",
                 flags.listen ? "limpid nc -l PORT; the address to listen on goes behind -s" : "limpid nc HOST PORT");
  }
  const auto rest = words.begin() + static_cast<std::ptrdiff_t>(most);
  options.program.insert(options.program.end(), rest, words.end());
  words.erase(rest, words.end());
  return words;
}

Status parse_listening_port(const NcFlags& flags, const std::vector<std::string>& operands, NetcatOptions& options) {
  if (operands.empty() && !flags.source_port) {
    return flags.setup ? Status() : usage_error("nc -l", "", "no port given", "limpid nc -l PORT");
  }
  const auto port = operands.empty() ? parse_port("-p", *flags.source_port) : parse_port("port", operands.front());
  if (!port) return std::unexpected(port.error());
  options.local_port = *port;
  return {};
}

/// Of a HOST that is an address: it must be of the family that the flags ask for.
Status check_family(const NcFlags& flags, const NetcatOptions& options) {
  const auto literal = literal_address(options.host);
  if (!literal || !options.family || *options.family == literal->family()) return {};
  const std::string is_of =
      fmt::format("{} is an {} address", without_brackets(options.host), to_string(literal->family()));
  const std::string_view family = flags.ipv4 ? "-4" : flags.ipv6 ? "-6" : "";
  if (!flags.source) return usage_error(family, "", is_of, fmt::format("leave out {}", family));
  return wrong(fmt::format("{}{}-s", family, family.empty() ? "" : " "), *flags.source, is_of,
               "both ends need addresses of one family");
}

Status parse_target(const NcFlags& flags, const std::vector<std::string>& operands, NetcatOptions& options) {
  if (operands.size() < 2) {
    return usage_error("nc", "", operands.empty() ? "no host and port given" : "no port given",
                       "limpid nc HOST PORT, or limpid nc -l PORT");
  }
  options.host = operands[0];
  if (options.host.empty()) return usage_error("host", "\"\"", "it is empty", "limpid nc HOST PORT");
  if (auto apart = refuse_port("host", options.host, "limpid nc"); !apart) return apart;
  if (auto checked = check_family(flags, options); !checked) return checked;
  auto ports = PortSet::parse(operands[1]);
  if (!ports) return wrong("port", operands[1], ports.error());
  options.ports = std::move(*ports);
  const auto first = options.ports.ranges().front();
  if (!flags.scan && (options.ports.ranges().size() > 1 || first.first != first.last)) {
    return wrong("port", operands[1], "several ports", "add -z to see which of them are open");
  }
  if (flags.source_port) {
    const auto port = parse_port("-p", *flags.source_port);
    if (!port) return std::unexpected(port.error());
    options.local_port = *port;
  }
  return {};
}

Status check_combinations(const NcFlags& flags) {
  const bool runs_program = flags.program || flags.command;
  if (flags.keep && !flags.listen) return usage_error("-k", "", "only a listener can stay", "add -l");
  if (flags.scan && flags.listen) return usage_error("-z", "", "a listener cannot scan", "leave out -l or -z");
  if (flags.scan && runs_program) {
    return usage_error("-z", "", "a scan talks to nobody, and no program can", "leave out -z, -e or -c");
  }
  if (flags.transparent && !flags.listen && !flags.source) {
    return usage_error("--transparent", "", "of a caller it needs an address", "add -s ADDRESS, or -l to listen");
  }
  return {};
}

Result<std::optional<NcSetup>> parse_setup(const NcFlags& flags) {
  if (!flags.setup) {
    if (flags.name_given)
      return wrong("--name", flags.name, "it tags what --setup installs", "add --setup, or leave it out");
    if (!flags.tcp && !flags.udp) return std::nullopt;
    return usage_error(flags.tcp ? "--tcp" : "--udp", "", "it says what --setup shall intercept",
                       "add --setup; without it nothing is installed");
  }
  NcSetup setup;
  if (auto name = check_instance_name(flags.name); !name) return wrong("--name", flags.name, name.error());
  setup.name = flags.name;
  if (flags.datagrams && flags.tcp)
    return usage_error("--tcp", "", "the listener takes UDP", "write --udp, or leave out -u");
  if (!flags.datagrams && flags.udp)
    return usage_error("--udp", "", "the listener takes TCP", "add -u, or write --tcp");
  const std::string_view flag = flags.datagrams ? "--udp" : "--tcp";
  const auto& typed = flags.datagrams ? flags.udp : flags.tcp;
  if (!typed) {
    if (flags.source) return setup;
    return usage_error("--setup", "", "it is not said for what",
                       flags.listen
                           ? fmt::format("{} PORTS intercepts them; -s ADDRESS diverts a foreign address", flag)
                           : "add -s ADDRESS, a foreign one");
  }
  if (!flags.listen) return wrong(flag, *typed, "only a listener can intercept", "add -l");
  if (flags.source) {
    return wrong("-s", *flags.source, fmt::format("with {} the listener is on loopback", flag), "leave it out");
  }
  auto ports = PortSet::parse(*typed);
  if (!ports) return wrong(flag, *typed, ports.error());
  (flags.datagrams ? setup.udp : setup.tcp) = std::move(*ports);
  return setup;
}

}  // namespace

void add_nc_flags(CLI::App& verb, NcFlags& flags) {
  constexpr auto kSetUp = "Setting up the kernel";
  // Three, because CLI11 takes what stands behind -- only while some positional option has none.
  verb.add_option("host", flags.first, "Whom to call; not with -l")->type_name("HOST");
  verb.add_option("port", flags.second, "Where to call or listen")->type_name("PORT");
  verb.add_option("arguments", flags.rest, "Behind --: the arguments of -e")->type_name("ARGUMENT");
  verb.add_flag("-l,--listen", flags.listen, "Wait for a connection or datagram instead of calling");
  verb.add_flag("-k,--keep", flags.keep, "With -l: stay after the first one");
  verb.add_flag("-u", flags.datagrams, "UDP instead of TCP");
  verb.add_flag("-4", flags.ipv4, "IPv4 only");
  verb.add_flag("-6", flags.ipv6, "IPv6 only");
  verb.add_option("-s,--source", flags.source, "Our own address; a foreign one needs CAP_NET_ADMIN")
      ->type_name("ADDRESS");
  verb.add_option("-p,--source-port", flags.source_port, "Our own port")->type_name("PORT");
  verb.add_flag("-N,--shutdown", flags.finish, "Tell the peer when standard input has ended (TCP)");
  verb.add_option("-q", flags.linger, "Once either side has ended, give the other this long; default: for ever")
      ->type_name("TIME");
  verb.add_option("-w", flags.idle, "Limit for connecting, and for silence afterwards; default: none")
      ->type_name("TIME");
  verb.add_flag("-z,--scan", flags.scan, "Only see which ports are open: limpid nc -z HOST 20-25,80");
  verb.add_option("-e,--exec", flags.program, "Talk to this program instead of standard input and output; no shell")
      ->type_name("PROGRAM");
  verb.add_option("-c", flags.command, "The same with arguments, split at blanks and quotes; no shell either")
      ->type_name("COMMAND");
  verb.add_flag("-n,--numeric", flags.numeric, "Never ask a name server");
  verb.add_flag("-v,--verbose", flags.verbose, "Say who came, and which address was dialled");
  verb.add_flag("--transparent", flags.transparent, "Set IP_TRANSPARENT, for a listener behind tproxy rules");
  verb.add_flag("--setup", flags.setup, "Install what this needs in the kernel, and remove it at the end")
      ->group(kSetUp);
  verb.add_option("--tcp", flags.tcp, "With -l --setup: intercept forwarded connections to these ports")
      ->type_name("PORTS")
      ->group(kSetUp);
  verb.add_option("--udp", flags.udp, "With -l -u --setup: intercept forwarded datagrams to these ports")
      ->type_name("PORTS")
      ->group(kSetUp);
  verb.add_option("--name", flags.name, "Tags what is installed; several at one time need several names")
      ->type_name("NAME")
      ->capture_default_str()
      ->each([&flags](const std::string&) { flags.name_given = true; })
      ->group(kSetUp);
}

Result<NcRequest> parse_nc_flags(const NcFlags& flags) {
  NcRequest request;
  NetcatOptions& options = request.netcat;
  request.listen = flags.listen;
  request.scan = flags.scan;
  request.verbose = flags.verbose;
  options.transport = flags.datagrams ? Transport::udp : Transport::tcp;
  options.keep_listening = flags.keep;
  options.numeric = flags.numeric;
  if (auto checked = check_combinations(flags); !checked) return std::unexpected(checked.error());
  if (auto parsed = parse_addresses(flags, options); !parsed) return std::unexpected(parsed.error());
  if (auto parsed = parse_times(flags, options); !parsed) return std::unexpected(parsed.error());
  if (auto parsed = parse_program(flags, options); !parsed) return std::unexpected(parsed.error());
  auto setup = parse_setup(flags);
  if (!setup) return std::unexpected(setup.error());
  request.setup = std::move(*setup);
  const auto operands = take_operands(flags, options);
  if (!operands) return std::unexpected(operands.error());
  const auto parsed =
      flags.listen ? parse_listening_port(flags, *operands, options) : parse_target(flags, *operands, options);
  if (!parsed) return std::unexpected(parsed.error());
  options.transparent = flags.transparent || (request.setup && request.setup->intercepts());
  return request;
}

}  // namespace limpid
