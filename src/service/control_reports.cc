// Reading only; one function for each endpoint.
#include "service/control_reports.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "limpid/version.h"
#include "relay/clock.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

std::string as_line(const ordered_json& json) {
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

ordered_json text_or_null(const std::string& text) {
  return text.empty() ? ordered_json() : ordered_json(text);
}

ordered_json plan_json(const InstanceFacts& facts, const InstanceSituation& situation, const PlanCondition* plan) {
  if (facts.verb != "run") return nullptr;
  const bool disturbed = plan != nullptr && plan->disturbed.load(std::memory_order_relaxed);
  const bool gave_up = plan != nullptr && plan->gave_up.load(std::memory_order_relaxed);
  const bool abandoned = plan != nullptr && plan->abandoned.load(std::memory_order_relaxed);
  return {{"state", abandoned         ? "abandoned"
                    : gave_up         ? "given_up"
                    : disturbed       ? "disturbed"
                    : plan == nullptr ? "unwatched"
                                      : "installed"},
          {"disturbances", plan != nullptr ? plan->drifts.load(std::memory_order_relaxed) : 0},
          {"repairs", plan != nullptr ? plan->repairs.load(std::memory_order_relaxed) : 0},
          {"repair", facts.repair},
          {"backend", facts.backend},
          {"tcp", situation.tcp},
          {"udp", situation.udp},
          {"mark", facts.mark},
          {"table", facts.table},
          {"priority", facts.priority},
          {"fail", facts.fail}};
}

ordered_json reload_json(const std::optional<ReloadOutcome>& outcome) {
  if (!outcome) return nullptr;
  return {{"at", format_timestamp(outcome->at_us)},
          {"ok", outcome->ok},
          {"rules", outcome->rules},
          {"errors", outcome->errors}};
}

ordered_json histogram_json(const HistogramReading& reading) {
  ordered_json buckets = ordered_json::array();
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < HistogramReading::kBuckets; ++i) {
    count += reading.counts[i];
    const bool bounded = i < DurationHistogram::kBounds.size();
    buckets.push_back({{"at_most_us", bounded ? ordered_json(DurationHistogram::kBounds[i].count()) : ordered_json()},
                       {"count", reading.counts[i]}});
  }
  return {{"count", count}, {"sum_us", reading.sum_us}, {"buckets", buckets}};
}

}  // namespace

std::string report_status(const Relay& relay, const InstanceState& instance, const PlanCondition* plan,
                          LogLevel level) {
  const InstanceFacts& facts = instance.facts();
  const InstanceSituation situation = instance.situation();
  const std::int64_t uptime_us = std::max<std::int64_t>(0, wall_clock_us() - facts.started_us);
  return as_line(
      {{"schema", 1},
       {"version", kVersion},
       {"pid", ::getpid()},
       {"verb", facts.verb},
       {"name", text_or_null(facts.name)},
       {"state", situation.draining ? "draining" : "serving"},
       {"started", format_timestamp(facts.started_us)},
       {"uptime_ms", uptime_us / 1000},
       {"families", facts.families},
       {"listeners", facts.listeners},
       {"source", facts.source},
       {"udp_source", text_or_null(facts.udp_source)},
       {"plan", plan_json(facts, situation, plan)},
       {"flows",
        {{"tcp", relay.open_flows()},
         {"udp", relay.open_sessions()},
         {"cut_through", relay.offloaded_flows()},
         {"udp_cut_through", relay.offloaded_sessions()},
         {"adopted", relay.adopted_flows()},
         {"udp_adopted", relay.adopted_sessions()}}},
       {"dns_hints", relay.hints() != nullptr ? ordered_json(relay.hints()->size()) : ordered_json()},
       {"limits",
        {{"flows", relay.max_flows()}, {"refused", relay.count(Counter::refused_limit)}, {"workers", relay.workers()}}},
       {"configuration",
        {{"file", text_or_null(facts.config_file)}, {"last_reload", reload_json(situation.last_reload)}}},
       {"log_level", to_string(level)},
       {"control", text_or_null(facts.control_path)},
       {"metrics", text_or_null(facts.metrics_address)},
       {"dashboard", text_or_null(facts.dashboard_address)}});
}

std::string report_rules(const CurrentRules* rules) {
  ordered_json listed = ordered_json::array();
  std::uint64_t unmatched = 0;
  if (rules != nullptr) {
    const auto current = rules->current();
    const auto& all = current->set().rules();
    // Whatever a rule did not decide, one behind it did, or none.
    std::uint64_t behind = unmatched = current->unmatched();
    for (std::size_t number = all.size(); number-- > 0;) {
      const std::uint64_t hits = current->hits(number);
      listed.push_back({{"number", number + 1},
                        {"rule", all[number].text},
                        {"action", to_string(all[number].action)},
                        {"hits", hits},
                        {"misses", behind}});
      behind += hits;
    }
    std::ranges::reverse(listed);
  }
  return as_line({{"schema", 1}, {"rules", listed}, {"unmatched", unmatched}});
}

std::string report_counters(const Relay& relay) {
  ordered_json counters = ordered_json::object();
  for (std::size_t i = 0; i < kCounterCount; ++i) {
    const auto counter = static_cast<Counter>(i);
    counters[std::string(to_string(counter))] = relay.count(counter);
  }
  ordered_json stayed = ordered_json::object();
  for (std::size_t i = 0; relay.offloads() && i < kStayReasonCount; ++i) {
    const auto reason = static_cast<StayReason>(i);
    stayed[std::string(to_string(reason))] = relay.stayed(reason);
  }
  return as_line({{"schema", 1},
                  {"counters", counters},
                  {"cut_through_stayed", stayed},
                  {"histograms",
                   {{"connect_duration", histogram_json(relay.read(&Counters::connect_time))},
                    {"flow_duration", histogram_json(relay.read(&Counters::flow_duration))},
                    {"udp_session_duration", histogram_json(relay.read(&Counters::session_duration))}}}});
}

std::string report_upstreams(const Relay& relay) {
  ordered_json groups = ordered_json::array();
  const UpstreamGroups* all = relay.upstreams();
  if (all == nullptr) return as_line({{"schema", 1}, {"groups", groups}});
  for (const std::uint16_t number : all->at_work()) {
    const auto& group = all->at(number);
    ordered_json members = ordered_json::array();
    for (unsigned i = 0; i < group.options().members.size(); ++i) {
      const auto state = group.state(i);
      members.push_back({{"number", i + 1},
                         {"name", group.member(i).name},
                         {"up", state.up},
                         {"flows", state.flows},
                         {"failures", state.failures},
                         {"latency_us", state.latency_us == 0 ? ordered_json() : ordered_json(state.latency_us)}});
    }
    groups.push_back({{"number", number},
                      {"name", group.options().name},
                      {"choice", to_string(group.options().choice)},
                      {"down", group.options().down == GroupDown::reject ? "reject" : "direct"},
                      {"upstreams", members}});
  }
  return as_line({{"schema", 1}, {"groups", groups}});
}

std::string report_log_level(LogLevel level) {
  return as_line({{"level", to_string(level)}});
}

std::string report_errors(const std::vector<std::string>& errors) {
  return as_line({{"ok", false}, {"errors", errors}});
}

std::string report_configuration(const std::string& description) {
  const auto configuration = ordered_json::parse(description, nullptr, /*allow_exceptions=*/false);
  if (description.empty() || configuration.is_discarded()) return {};
  return as_line({{"ok", true}, {"configuration", configuration}});
}

std::string report_reload(const ReloadOutcome& outcome) {
  if (!outcome.ok) return report_errors(outcome.errors);
  ordered_json done = {{"ok", true}, {"rules", outcome.rules}};
  if (outcome.ended) done["ended"] = *outcome.ended;
  return as_line(done);
}

}  // namespace limpid
