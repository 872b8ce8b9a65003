// limpid trace: what becomes of a flow's packets, one by one, as they come.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <memory>

#include "cli/duration.h"
#include "cli/flag_values.h"
#include "cli/packet_operands.h"
#include "cli/verb.h"
#include "explain/live_trace.h"
#include "explain/render.h"
#include "service/signals.h"

namespace limpid {
namespace {

struct TraceFlags {
  std::string protocol;
  std::string source;
  std::string destination;
  std::string count;
  std::string timeout;
  bool drop_only = false;
  bool json = false;
};

constexpr std::uint32_t kMostPackets = 1'000'000'000;

Result<TraceOptions> parse(const TraceFlags& flags) {
  TraceOptions options;
  const auto transport = parse_transport(flags.protocol);
  if (!transport) return std::unexpected(transport.error());
  options.selection.transport = *transport;
  EndpointPattern from;
  EndpointPattern to;
  if (!flags.source.empty()) {
    const auto source = parse_endpoint("SRC", flags.source, /*any_allowed=*/true);
    if (!source) return std::unexpected(source.error());
    from = *source;
  }
  if (!flags.destination.empty()) {
    const auto destination = parse_endpoint("DST", flags.destination, /*any_allowed=*/true);
    if (!destination) return std::unexpected(destination.error());
    to = *destination;
    if (auto same = check_one_family(flags.source, from, to); !same) return std::unexpected(same.error());
  }
  options.selection.source = from.address;
  options.selection.source_port = from.port;
  options.selection.destination = to.address;
  options.selection.destination_port = to.port;
  if (!flags.count.empty()) {
    const auto count = parse_number("--count", flags.count, 1, kMostPackets, "a number of packets");
    if (!count) return std::unexpected(count.error());
    options.count = *count;
  }
  if (!flags.timeout.empty()) {
    const auto timeout = parse_duration("--timeout", flags.timeout);
    if (!timeout) return std::unexpected(timeout.error());
    options.timeout = *timeout;
  }
  options.drop_only = flags.drop_only;
  return options;
}

int run(const TraceFlags& flags) {
  const auto options = parse(flags);
  if (!options) return report(options.error());
  const auto signals = take_signals();
  if (!signals) return report(signals.error());
  const Transport transport = options->selection.transport;
  const bool unicode = shows_unicode();
  bool first = true;
  int lost = 0;  // errno of standard output
  const auto summary = trace_packets(
      *options, signals->get(), [] { fmt::print(stderr, "limpid: following packets; end with Ctrl-C\n"); },
      [&](const FollowedPacket& packet) {
        const std::string text =
            flags.json ? render_json(packet, transport) : (first ? "" : "\n") + render_text(packet, transport, unicode);
        first = false;
        // No exception here, and no end by SIGPIPE: the table has to go first.
        if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return true;
        lost = errno;
        return false;
      });
  if (!summary) return report(summary.error());
  if (lost == EPIPE) {  // `| head` has seen enough, as with any other command
    (void)std::signal(SIGPIPE, SIG_DFL);
    (void)std::raise(SIGPIPE);
  }
  if (summary->losses > 0) {
    fmt::print(stderr,
               "limpid: warning: more packets than could be followed: some are missing; name the flow more exactly\n");
  }
  return kExitDone;
}

}  // namespace

void add_trace_verb(CLI::App& app, Action& action) {
  const auto flags = std::make_shared<TraceFlags>();
  CLI::App* verb = app.add_subcommand("trace", "Follow the packets of a flow through every rule, as they come");
  verb->add_option("PROTOCOL", flags->protocol, "tcp or udp")->required()->type_name("");
  verb->add_option("SRC", flags->source, "One end of the flow: ADDRESS[:PORT], any, or any:PORT")->type_name("");
  verb->add_option("DST", flags->destination, "Its other end, alike; both directions are followed")->type_name("");
  verb->add_option("--count", flags->count, "End after this many packets")->type_name("N");
  verb->add_option("--timeout", flags->timeout, "End after this time")->type_name("TIME");
  verb->add_flag("--drop-only", flags->drop_only, "Only packets that are dropped or rejected");
  verb->add_flag("--json", flags->json, "Print JSON, a line for each packet (schema: docs/trace.md)");
  verb->callback([flags, &action] { action = [flags] { return run(*flags); }; });
}

}  // namespace limpid
