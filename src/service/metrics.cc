// One family after the other: HELP, TYPE, samples. Sums are read from the workers' counters without a lock.
#include "service/metrics.h"

#include <fmt/format.h>

#include <array>
#include <string_view>
#include <utility>

#include "limpid/version.h"

namespace limpid {
namespace {

class Exposition {
 public:
  void family(std::string_view name, std::string_view type, std::string_view help) {
    fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
  }
  /// `labels`: empty, or name="value",… of characters that need no escape.
  void sample(std::string_view name, std::string_view labels, auto value) {
    if (labels.empty()) {
      fmt::format_to(std::back_inserter(text_), "{} {}\n", name, value);
    } else {
      fmt::format_to(std::back_inserter(text_), "{}{{{}}} {}\n", name, labels, value);
    }
  }
  void gauge(std::string_view name, std::string_view help, auto value) {
    family(name, "gauge", help);
    sample(name, "", value);
  }
  void counter(std::string_view name, std::string_view help, std::uint64_t value) {
    family(name, "counter", help);
    sample(name, "", value);
  }
  void histogram(std::string_view name, std::string_view labels, const HistogramReading& reading) {
    const std::string_view comma = labels.empty() ? "" : ",";
    std::uint64_t below = 0;
    for (std::size_t i = 0; i < HistogramReading::kBuckets; ++i) {
      below += reading.counts[i];
      const std::string bound =
          i < DurationHistogram::kBounds.size()
              ? fmt::format("{}", static_cast<double>(DurationHistogram::kBounds[i].count()) / 1e6)
              : "+Inf";
      sample(fmt::format("{}_bucket", name), fmt::format("{}{}le=\"{}\"", labels, comma, bound), below);
    }
    sample(fmt::format("{}_sum", name), labels, static_cast<double>(reading.sum_us) / 1e6);
    sample(fmt::format("{}_count", name), labels, below);
  }
  [[nodiscard]] std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

struct Described {
  Counter counter;
  std::string_view help;
};

/// Each becomes limpid_NAME_total. Those that are not here are part of a family with labels.
constexpr std::array kCounters{
    Described{Counter::refused_direct, "Connections that came to the listener without having been intercepted."},
    Described{Counter::refused_self, "Flows whose target was a listener of ours."},
    Described{Counter::refused_forbidden_target, "Flows to loopback, link-local, multicast or unspecified targets."},
    Described{Counter::refused_limit, "Connections refused for want of descriptors or flow slots."},
    Described{Counter::refused_proxy_header, "Connections without a valid PROXY header where there had to be one."},
    Described{Counter::rejected, "Flows that a rule rejected."},
    Described{Counter::dropped, "Flows that a rule dropped."},
    Described{Counter::sniffed, "Flows whose decision waited for their first bytes."},
    Described{Counter::sniffed_unknown, "Of those, flows decided without knowing what they are."},
    Described{Counter::names_asked, "Flows whose name had to be looked up (by-name)."},
    Described{Counter::names_cached, "Flows whose name had been looked up before."},
    Described{Counter::names_learnt, "DNS answers out of which addresses got a name (dns-hint)."},
    Described{Counter::names_hinted, "Flows that had a name by such an answer alone."},
    Described{Counter::name_unresolved, "Flows refused because their name has no address, or none in time."},
    Described{Counter::connect_refused, "Targets that answered with a reset."},
    Described{Counter::connect_timeout, "Targets that did not answer in time."},
    Described{Counter::connect_unreachable, "Targets without a route, or with an ICMP error."},
    Described{Counter::connect_failed, "Connections to targets that failed otherwise."},
    Described{Counter::target_failovers, "Targets that failed, after which the next one was dialled."},
    Described{Counter::upstream_failovers, "Upstreams that failed a flow, after which the next one was asked."},
    Described{Counter::upstream_direct, "Flows that went without an upstream, because their group was down."},
    Described{Counter::upstream_refused, "Flows that an upstream refused."},
    Described{Counter::upstream_failed, "Flows that ended because of an upstream's connection or handshake."},
    Described{Counter::upstream_timeout, "Flows that ended because an upstream did not answer in time."},
    Described{Counter::upstream_down, "Flows that ended because all upstreams were down."},
    Described{Counter::source_unavailable, "Flows whose demanded source address and port could not be had."},
    Described{Counter::source_port_kept, "Flows whose target saw the client's port."},
    Described{Counter::source_port_fallback, "Flows whose client's port was taken, so that another one was used."},
    Described{Counter::source_fallback_none, "Flows whose client's address cannot be used towards their target."},
    Described{Counter::client_resets, "Flows that their client reset."},
    Described{Counter::target_resets, "Flows that their target reset."},
    Described{Counter::idle_timeouts, "Flows that were silent for too long."},
    Described{Counter::killed, "Flows that the operator ended."},
    Described{Counter::spliced_bytes, "Relayed bytes that never came to user space."},
    Described{Counter::udp_dropped, "Datagrams that could not be sent on."},
    Described{Counter::udp_filtered, "Answers that the filtering did not admit."},
    Described{Counter::udp_ttl_expired, "Datagrams that had travelled far enough."},
    Described{Counter::udp_evicted, "UDP sessions ended to make room."},
    Described{Counter::udp_icmp_errors, "ICMP errors passed on to clients."},
    Described{Counter::access_log_dropped,
              "Access log records lost because they could not be written, or not fast enough."},
};

void add_flows(Exposition& text, const Relay& relay) {
  text.family("limpid_flows_total", "counter", "Connections accepted, refused ones included, and UDP sessions begun.");
  text.sample("limpid_flows_total", R"(protocol="tcp")", relay.count(Counter::flows_total));
  text.sample("limpid_flows_total", R"(protocol="udp")", relay.count(Counter::udp_sessions_total));
  text.family("limpid_flows_ended_total", "counter",
              "Of limpid_flows_total and limpid_cut_through_adopted_total, those that are over.");
  text.sample("limpid_flows_ended_total", R"(protocol="tcp")", relay.count(Counter::flows_ended));
  text.sample("limpid_flows_ended_total", R"(protocol="udp")", relay.count(Counter::udp_sessions_ended));
  text.family("limpid_flows_open", "gauge", "Flows that live now, cut through or not.");
  text.sample("limpid_flows_open", R"(protocol="tcp")", relay.open_flows());
  text.sample("limpid_flows_open", R"(protocol="udp")", relay.open_sessions());
  text.gauge("limpid_flows_limit", "How many connections may be open at one time.", relay.max_flows());
  text.family("limpid_bytes_total", "counter", "Payload relayed; up is from client to target.");
  text.sample("limpid_bytes_total", R"(direction="up")", relay.count(Counter::bytes_up));
  text.sample("limpid_bytes_total", R"(direction="down")", relay.count(Counter::bytes_down));
  text.family("limpid_udp_datagrams_total", "counter", "Datagrams relayed; up is from client to target.");
  text.sample("limpid_udp_datagrams_total", R"(direction="up")", relay.count(Counter::udp_datagrams_up));
  text.sample("limpid_udp_datagrams_total", R"(direction="down")", relay.count(Counter::udp_datagrams_down));
  for (const auto& [counter, help] : kCounters)
    text.counter(fmt::format("limpid_{}_total", to_string(counter)), help, relay.count(counter));
  constexpr std::string_view kConnect = "limpid_connect_duration_seconds";
  text.family(kConnect, "histogram", "How long targets and upstreams took to accept a connection.");
  text.histogram(kConnect, "", relay.read(&Counters::connect_time));
  constexpr std::string_view kDuration = "limpid_flow_duration_seconds";
  text.family(kDuration, "histogram", "How long flows lived that were relayed and are over.");
  text.histogram(kDuration, R"(protocol="tcp")", relay.read(&Counters::flow_duration));
  text.histogram(kDuration, R"(protocol="udp")", relay.read(&Counters::session_duration));
}

void add_cut_through(Exposition& text, const Relay& relay) {
  text.family("limpid_cut_through_total", "counter", "Flows that left the relay while they lived.");
  text.sample("limpid_cut_through_total", R"(protocol="tcp")", relay.count(Counter::cut_through));
  text.sample("limpid_cut_through_total", R"(protocol="udp")", relay.count(Counter::udp_cut_through));
  text.family("limpid_cut_through_open", "gauge", "Flows that have left the relay and live.");
  text.sample("limpid_cut_through_open", R"(protocol="tcp")", relay.offloaded_flows());
  text.sample("limpid_cut_through_open", R"(protocol="udp")", relay.offloaded_sessions());
  text.family("limpid_cut_through_adopted_total", "counter",
              "Flows that had left an earlier process, which was killed, and were taken over at the start.");
  text.sample("limpid_cut_through_adopted_total", R"(protocol="tcp")", relay.adopted_flows());
  text.sample("limpid_cut_through_adopted_total", R"(protocol="udp")", relay.adopted_sessions());
  text.family("limpid_cut_through_bytes_total", "counter", "All bytes of cut-through flows that are over.");
  text.sample("limpid_cut_through_bytes_total", R"(direction="up")", relay.count(Counter::cut_through_bytes_up));
  text.sample("limpid_cut_through_bytes_total", R"(direction="down")", relay.count(Counter::cut_through_bytes_down));
  if (!relay.offloads()) return;
  text.family("limpid_cut_through_stayed_total", "counter", "Flows that were not cut through, by reason.");
  for (std::size_t i = 0; i < kStayReasonCount; ++i) {
    const auto reason = static_cast<StayReason>(i);
    text.sample("limpid_cut_through_stayed_total", fmt::format("reason=\"{}\"", to_string(reason)),
                relay.stayed(reason));
  }
}

void add_rules(Exposition& text, const CurrentRules& rules) {
  const auto current = rules.current();
  text.family("limpid_rule_hits_total", "counter", "Flows that this rule decided, by its number.");
  for (std::size_t number = 0; number < current->set().rules().size(); ++number)
    text.sample("limpid_rule_hits_total", fmt::format("rule=\"{}\"", number + 1), current->hits(number));
  text.counter("limpid_rules_unmatched_total", "Flows that no rule decided.", current->unmatched());
}

void add_upstreams(Exposition& text, const UpstreamGroups& groups) {
  const auto each = [&](std::string_view name, auto value) {
    for (const std::uint16_t number : groups.at_work()) {
      const auto& group = groups.at(number);
      for (unsigned i = 0; i < group.options().members.size(); ++i) {
        text.sample(name, fmt::format("group=\"{}\",upstream=\"{}\"", number, i + 1), value(group.state(i)));
      }
    }
  };
  text.family("limpid_upstream_up", "gauge", "1 if the upstream is up; by number of group and upstream.");
  each("limpid_upstream_up", [](const UpstreamState& state) { return state.up ? 1 : 0; });
  text.family("limpid_upstream_flows_total", "counter", "Flows handed over to the upstream.");
  each("limpid_upstream_flows_total", [](const UpstreamState& state) { return state.flows; });
  text.family("limpid_upstream_failures_total", "counter", "Connections and handshakes that the upstream failed.");
  each("limpid_upstream_failures_total", [](const UpstreamState& state) { return state.failures; });
  text.family("limpid_upstream_connect_seconds", "gauge", "How long its connections take, smoothed; 0: not known.");
  each("limpid_upstream_connect_seconds",
       [](const UpstreamState& state) { return static_cast<double>(state.latency_us) / 1e6; });
}

void add_plan(Exposition& text, const PlanCondition& plan) {
  text.gauge("limpid_plan_intact", "1 as long as nobody has changed the rules in the kernel, or they were put back.",
             plan.disturbed.load(std::memory_order_relaxed) ? 0 : 1);
  text.counter("limpid_plan_disturbances_total", "How often somebody else had changed the rules in the kernel.",
               plan.drifts.load(std::memory_order_relaxed));
  text.counter("limpid_plan_repairs_total", "How often they were put back.",
               plan.repairs.load(std::memory_order_relaxed));
}

}  // namespace

std::string render_metrics(const Relay& relay, const InstanceState& instance, const CurrentRules* rules,
                           const PlanCondition* plan) {
  Exposition text;
  const InstanceSituation situation = instance.situation();
  text.family("limpid_build_info", "gauge", "Always 1; the version is in the label.");
  text.sample("limpid_build_info", fmt::format("version=\"{}\"", kVersion), 1);
  text.gauge("limpid_start_time_seconds", "When the instance started, in seconds since the epoch.",
             fmt::format("{:.3f}", static_cast<double>(instance.facts().started_us) / 1e6));
  text.gauge("limpid_workers", "Threads that relay.", relay.workers());
  text.gauge("limpid_draining", "1 once the instance takes no new flows.", situation.draining ? 1 : 0);
  if (!instance.facts().config_file.empty()) {
    const auto& last = situation.last_reload;
    text.gauge("limpid_config_last_reload_successful", "1 if the last reload succeeded, or there was none.",
               !last || last->ok ? 1 : 0);
    text.gauge("limpid_config_last_reload_timestamp_seconds", "When the last reload was; at first, when it started.",
               fmt::format("{:.3f}", static_cast<double>(last ? last->at_us : instance.facts().started_us) / 1e6));
  }
  add_flows(text, relay);
  add_cut_through(text, relay);
  if (rules != nullptr) add_rules(text, *rules);
  if (relay.upstreams() != nullptr) add_upstreams(text, *relay.upstreams());
  if (plan != nullptr) add_plan(text, *plan);
  return text.take();
}

}  // namespace limpid
