// See probe_table.h. Each rule's comment says what it counts: "t4 input 2". A chain that is added stands before those of the
// same priority that are there already (nf_hook_entries_grow in net/netfilter/core.c), so a counter at the priority of a
// chain counts what reaches that chain.
#include "doctor/probe_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "doctor/firewall_chain.h"

namespace limpid::doctor {
namespace {

constexpr int kFirst = -2000000;
constexpr int kLast = 2000000;

std::vector<int> stations_of(const Facts& facts, const std::string& hook) {
  std::set<int> priorities = {kFirst, kLast};
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    for (const int priority : priorities_of(facts, family, hook)) priorities.insert(priority);
  }
  return {priorities.begin(), priorities.end()};
}

std::string_view header(Family family) {
  return family == Family::ipv4 ? "ip" : "ip6";
}
std::string_view protocol(Transport transport) {
  return transport == Transport::tcp ? "tcp" : "udp";
}

std::string to_target(const ProbeStream& s) {
  return fmt::format("{} daddr {} {} dport {}", header(s.family), s.target.to_string(), protocol(s.transport),
                     s.port.value);
}
std::string from_target(const ProbeStream& s) {
  return fmt::format("{} saddr {} {} sport {}", header(s.family), s.target.to_string(), protocol(s.transport),
                     s.port.value);
}
std::string from_client(const ProbeStream& s) {
  return fmt::format("{} saddr {} {}", header(s.family), s.client.to_string(), to_target(s));
}
std::string to_client(const ProbeStream& s) {
  return fmt::format("{} daddr {} {}", header(s.family), s.client.to_string(), from_target(s));
}

class Writer {
 public:
  Writer(const std::vector<ProbeStream>& streams, const MarkField& mark) : streams_(streams), mark_(mark) {}

  std::string render(const ProbeStations& stations) {
    text_ = fmt::format("table inet {} {{\n", kProbeTable);
    add_hook("prerouting", stations.prerouting);
    add_hook("input", stations.input);
    add_hook("output", stations.output);
    add_hook("postrouting", stations.postrouting);
    begin("forward", 0, kFirst);
    for (const ProbeStream& stream : streams_) {
      count(from_client(stream), stream, "forwarded", 0, " drop");
      text_ += fmt::format("    iifname \"{}\" {} drop\n", kTargetLink, from_target(stream));
    }
    end();
    return text_ + "}\n";
  }

 private:
  void add_hook(std::string_view hook, const std::vector<int>& priorities) {
    for (std::size_t i = 0; i < priorities.size(); ++i) {
      begin(hook, i, priorities[i]);
      for (const ProbeStream& stream : streams_) {
        const bool is_request = hook == "prerouting" || hook == "input";
        const std::string match = is_request ? from_client(stream) : to_client(stream);
        // The target's answers are counted by the interface they come from.
        const std::string way = is_request ? fmt::format("iifname != \"{}\" ", kTargetLink) : "";
        count(way + match, stream, hook, i);
        add_extras(hook, i, i + 1 == priorities.size(), stream);
      }
      end();
    }
  }

  void add_extras(std::string_view hook, std::size_t i, bool is_last, const ProbeStream& stream) {
    const std::string reply = fmt::format("iifname \"{}\" {}", kTargetLink, from_target(stream));
    if (hook == "prerouting" && i == 0) count(reply, stream, "replied", 0);
    if (hook == "input" && is_last) count(reply, stream, "reply-delivered", 0);
    if (hook == "input" && stream.family == Family::ipv6 && (i == 0 || is_last)) {
      const std::string solicitation =
          fmt::format("ip6 saddr {} icmpv6 type nd-neighbor-solicit", stream.client.to_string());
      count(solicitation, stream, i == 0 ? "solicited" : "solicited-delivered", 0);
    }
    if (hook == "prerouting" && is_last) {
      count(fmt::format("{} meta mark and {:#x} == {:#x}", from_client(stream), mark_.mask, mark_.intercept), stream,
            "marked", 0);
    }
    if (hook == "postrouting" && i == 0) {
      count(fmt::format(R"(oifname "{}" {})", kTargetLink, to_target(stream)), stream, "dialled", 0);
      // It must not leave this host.
      count(fmt::format("oifname != \"{}\" oifname != \"lo\" {}", kTargetLink, to_target(stream)), stream, "astray", 0,
            " drop");
    }
  }

  void begin(std::string_view hook, std::size_t index, int priority) {
    text_ += fmt::format("  chain {}_{} {{\n    type filter hook {} priority {}; policy accept;\n", hook, index, hook,
                         priority);
  }
  void end() { text_ += "  }\n"; }
  void count(std::string_view match, const ProbeStream& stream, std::string_view what, std::size_t index,
             std::string_view verdict = {}) {
    text_ += fmt::format("    {} counter{} comment \"{} {} {}\"\n", match, verdict, stream.tag(), what, index);
  }

  const std::vector<ProbeStream>& streams_;
  const MarkField& mark_;
  std::string text_;
};

std::uint64_t packets_of(const NftRule& rule) {
  for (const auto& statement : rule.expression) {
    if (!statement.is_object() || !statement.contains("counter") || !statement["counter"].is_object()) continue;
    const auto& counter = statement["counter"];
    if (counter.contains("packets") && counter["packets"].is_number_unsigned())
      return counter["packets"].get<std::uint64_t>();
  }
  return 0;
}

}  // namespace

std::string ProbeStream::name() const {
  return fmt::format("{} over {}", to_string(transport), to_string(family));
}
std::string ProbeStream::tag() const {
  return fmt::format("{}{}", transport == Transport::tcp ? 't' : 'u', family == Family::ipv4 ? 4 : 6);
}

ProbeStations find_stations(const Facts& facts) {
  return {.prerouting = stations_of(facts, "prerouting"),
          .input = stations_of(facts, "input"),
          .output = stations_of(facts, "output"),
          .postrouting = stations_of(facts, "postrouting")};
}

std::string render_probe_table(const std::vector<ProbeStream>& streams, const ProbeStations& stations,
                               const MarkField& mark) {
  return Writer(streams, mark).render(stations);
}

ProbeTrace read_trace(const Ruleset& listing, const ProbeStream& stream, const ProbeStations& stations) {
  const auto count = [&](std::string_view what, std::size_t index) -> std::uint64_t {
    const std::string comment = fmt::format("{} {} {}", stream.tag(), what, index);
    const auto rule = std::ranges::find_if(
        listing.rules, [&](const NftRule& r) { return r.table == kProbeTable && r.comment == comment; });
    return rule == listing.rules.end() ? 0 : packets_of(*rule);
  };
  const auto counts = [&](std::string_view hook, const std::vector<int>& priorities) {
    std::vector<std::uint64_t> found;
    found.reserve(priorities.size());
    for (std::size_t i = 0; i < priorities.size(); ++i) found.push_back(count(hook, i));
    return found;
  };
  return {.prerouting = counts("prerouting", stations.prerouting),
          .input = counts("input", stations.input),
          .output = counts("output", stations.output),
          .postrouting = counts("postrouting", stations.postrouting),
          .marked = count("marked", 0),
          .forwarded = count("forwarded", 0),
          .dialled = count("dialled", 0),
          .astray = count("astray", 0),
          .replied = count("replied", 0),
          .reply_delivered = count("reply-delivered", 0),
          .solicited = count("solicited", 0),
          .solicited_delivered = count("solicited-delivered", 0)};
}

}  // namespace limpid::doctor
