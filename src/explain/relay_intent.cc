// See relay_intent.h. A command line is what the process was started with, and the process itself may have rewritten it: it is shown as
// what it is, a source of its own.
#include "explain/relay_intent.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <ranges>

#include "base/file_text.h"
#include "net/port_owner.h"

namespace limpid {
namespace {

std::vector<std::string> read_arguments(int pid) {
  const std::string text = read_text(fmt::format("/proc/{}/cmdline", pid));
  std::vector<std::string> arguments;
  for (const auto part : std::views::split(text, '\0')) arguments.emplace_back(part.begin(), part.end());
  if (!arguments.empty()) arguments.pop_back();  // behind the last NUL
  return arguments;
}

/// "--target X" or "--target=X"; the last one, as CLI11 has it.
std::optional<std::string> option(std::span<const std::string> arguments, std::string_view name) {
  std::optional<std::string> value;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view argument = arguments[i];
    if (argument == name && i + 1 < arguments.size()) value = arguments[i + 1];
    if (argument.starts_with(name) && argument.substr(name.size()).starts_with('=')) {
      value = argument.substr(name.size() + 1);
    }
  }
  return value;
}

std::optional<SourceMode> parse_source(std::string_view text) {
  for (const SourceMode mode :
       {SourceMode::none, SourceMode::address, SourceMode::address_and_port, SourceMode::prefer_port}) {
    if (to_string(mode) == text) return mode;
  }
  return std::nullopt;
}

std::string in_words(const RelayIntent& intent, const FlowKey& flow) {
  const std::string who = fmt::format("{} (pid {})", intent.process, intent.pid);
  if (!intent.known) return fmt::format("{} takes it; what it does with it cannot be seen from outside", who);
  if (intent.refusal) {
    switch (*intent.refusal) {
      case Refusal::direct: return fmt::format("{} would reset it: it was sent to the listener itself", who);
      case Refusal::self: return fmt::format("{} would reset it: the target is its own listener", who);
      case Refusal::forbidden_target:
        return fmt::format(
            "{} would reset it: {} is loopback, link-local, multicast or unspecified, and not dialled for a client",
            who, flow.original_destination.to_string());
      case Refusal::unresolved_name: return fmt::format("{} would reset it: its name has no address", who);
    }
  }
  std::string as;
  switch (intent.source) {
    case SourceMode::none: as = "an address of this host's own"; break;
    case SourceMode::address: as = flow.client.address.to_string(); break;
    case SourceMode::address_and_port: as = flow.client.to_string(); break;
    case SourceMode::prefer_port: as = flow.client.to_string() + ", or another port where that is taken"; break;
  }
  return fmt::format("{} would dial {} as {} (by its command line)", who, intent.target.to_string(), as);
}

}  // namespace

bool read_run_arguments(std::span<const std::string> arguments, Transport transport, PolicyOptions& options) {
  if (arguments.size() < 2 || arguments[1] != "run") return false;
  const std::string_view program = arguments[0];
  if (program.substr(program.rfind('/') + 1) != "limpid") return false;
  const auto rest = arguments.subspan(2);
  options.source = transport == Transport::udp ? SourceMode::prefer_port : SourceMode::address;
  if (const auto source = option(rest, "--source")) {
    const auto mode = parse_source(*source);
    if (!mode) return false;
    options.source = *mode;
  }
  if (const auto target = option(rest, "--target")) {
    const auto address = SocketAddress::parse(*target);
    if (!address) return false;
    options.fixed_target = *address;
  }
  return true;
}

RelayIntent find_intent(Transport transport, Port port, const FlowKey& flow) {
  RelayIntent intent;
  const auto process = find_port_process(transport, port);
  if (!process) {
    intent.words = fmt::format(
        "the process that listens on port {} could not be found (looking into others' takes privileges)", port.value);
    return intent;
  }
  intent.pid = process->pid;
  intent.process = process->name;
  PolicyOptions options;
  options.listeners = {{.address = IpAddress::loopback(flow.original_destination.family()), .port = port}};
  intent.known = read_run_arguments(read_arguments(intent.pid), transport, options);
  if (intent.known) {
    const Decision decision = Policy(options).decide(flow);
    intent.refusal = decision.refusal;
    intent.target = decision.dial.target;
    intent.source = decision.dial.source;
  }
  intent.words = in_words(intent, flow);
  return intent;
}

}  // namespace limpid
