// --upstream and what belongs to it, --accept-proxy-from.
#include "cli/upstream_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>

#include "cli/duration.h"
#include "cli/flag_values.h"
#include "cli/upstream_values.h"
#include "upstream/groups.h"

namespace limpid {
namespace {

constexpr std::string_view kGroup = "upstream";

Status parse_introducers(const UpstreamFlags& flags, RelaySettings& settings) {
  if (flags.introducers.empty()) return {};
  const auto items = items_of("--accept-proxy-from", flags.introducers);
  if (!items) return std::unexpected(items.error());
  for (const auto& item : *items) {
    const auto network = Prefix::parse(item);
    if (!network) return wrong("--accept-proxy-from", item, network.error());
    settings.introducers.push_back(*network);
  }
  return {};
}

}  // namespace

Status parse_upstream_flags(const UpstreamFlags& flags, RelaySettings& settings) {
  if (auto parsed = parse_introducers(flags, settings); !parsed) return parsed;
  const auto resolve = parse_duration("--upstream-resolve", flags.resolve);
  if (!resolve) return std::unexpected(resolve.error());
  constexpr std::chrono::milliseconds kShortest{100};
  if (resolve->count() != 0 && *resolve < kShortest)
    return usage_error("--upstream-resolve", flags.resolve, "too short", "at least 100ms, or 0 for never");
  settings.upstream_resolve = std::min<std::chrono::milliseconds>(*resolve, std::chrono::hours(24));
  if (flags.upstreams.empty()) {
    if (flags.given.empty()) return {};
    return usage_error(flags.given, "", "there is no --upstream", "add --upstream URL, or leave it out");
  }
  UpstreamGroupOptions group;
  group.name = kGroup;
  for (const auto& typed : flags.upstreams) {
    auto upstream = read_upstream(typed);
    if (!upstream) return std::unexpected(upstream.error());
    if (auto finished = finish_upstream(*upstream); !finished) return finished;
    group.members.push_back(std::move(*upstream));
  }
  if (auto read = read_choice(flags.choice, group); !read) return read;
  if (auto read = read_down(flags.down, group); !read) return read;
  if (auto read = read_datagrams(flags.datagrams, group); !read) return read;
  if (auto read = read_check(flags.check, group); !read) return read;
  if (auto read = read_timeout(flags.timeout, group); !read) return read;
  if (!flags.check_target.empty()) {
    if (auto read = read_check_target(flags.check_target, group); !read) return read;
  }
  // Says now what would be said at the start otherwise: two of one name, too many.
  if (const auto checked = check_group(group); !checked) {
    Error error = checked.error();
    error.operation = "--upstream";
    return std::unexpected(std::move(error));
  }
  settings.upstreams.push_back(std::move(group));
  settings.upstream = kGroup;
  return {};
}

void add_upstream_flags(CLI::App& verb, UpstreamFlags& flags, bool datagrams) {
  constexpr auto kHeading = "Upstreams";
  verb.add_option("--upstream", flags.upstreams,
                  "Go through this proxy; repeatable, then the next one serves when one fails:\n"
                  "socks5://[USER:PASSWORD@]HOST[:PORT], socks5h, socks4, socks4a, http, https, tcp, proxy-v1, "
                  "proxy-v2, direct")
      ->type_name("URL")
      ->allow_extra_args(false)
      ->group(kHeading);
  const auto add = [&](const std::string& name, std::string& value, const std::string& help) {
    return verb.add_option(name, value, help)->group(kHeading)->each([given = &flags.given, name](const std::string&) {
      *given = name;
    });
  };
  add("--upstream-choice", flags.choice,
      "Which of several: order (the first that is up, the default), each in turn, the fastest lately,\n"
      "or by the client's address")
      ->type_name("order|round-robin|least-latency|source-hash");
  add("--upstream-down", flags.down, "When none of them is left: reject (the default), or go to the target without")
      ->type_name("reject|direct");
  add("--upstream-timeout", flags.timeout, "How long an upstream may take to connect, and to shake hands (10s)")
      ->type_name("TIME");
  add("--upstream-check", flags.check,
      "How often they are asked whether they are there (0: never), how many answers\n"
      "make one up, and how many failures down (10s,2,3)")
      ->type_name("TIME[,RISE,FALL]");
  add("--upstream-check-target", flags.check_target,
      "Let a check ask each of them for a connection to that, instead of asking it for nothing")
      ->type_name("HOST:PORT");
  verb.add_option("--upstream-resolve", flags.resolve,
                  "How often the names of upstreams are looked up again; 0: never (30s)")
      ->type_name("TIME")
      ->group(kHeading);
  if (datagrams) {
    add("--upstream-udp", flags.datagrams, "Datagrams: upstream (SOCKS5 only, the default), direct or reject")
        ->type_name("upstream|direct|reject");
  }
  verb.add_option("--accept-proxy-from", flags.introducers,
                  "Connections from there begin with a PROXY protocol header, which names the client; repeatable")
      ->type_name("NETWORK[,...]")
      ->allow_extra_args(false)
      ->group(kHeading);
}

}  // namespace limpid
