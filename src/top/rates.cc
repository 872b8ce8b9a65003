// The relay's counters do not have what is forwarded past it: to them comes what its flows that are in both readings have moved meanwhile.
#include "top/rates.h"

#include <algorithm>
#include <utility>

namespace limpid::top {
namespace {

using Seconds = std::chrono::duration<double>;

/// Flows beyond the limit come and go in the answers; that long one is remembered.
constexpr std::chrono::seconds kMemory{30};

double grown(std::uint64_t now, std::uint64_t before) {
  return now > before ? static_cast<double>(now - before) : 0;
}

bool is_started_anew(const Reading& now, const Reading& before) {
  return now.connections < before.connections || now.sessions < before.sessions || now.bytes_up < before.bytes_up ||
         now.bytes_down < before.bytes_down || now.uptime_ms < before.uptime_ms || now.instance != before.instance;
}

}  // namespace

void RateMeter::take(Reading reading) {
  if (any_ && is_started_anew(reading, last_)) {
    any_ = false;
    seen_.clear();
    history_.clear();
  }
  const double seconds = any_ ? Seconds(reading.at - last_.at).count() : 0;
  Rates rates;
  rates.known = seconds > 0;
  double cut_up = 0;
  double cut_down = 0;
  flows_.clear();
  for (auto& flow : reading.flows) {
    RatedFlow rated;
    const auto before = seen_.find(flow.id);
    const double apart = before == seen_.end() ? 0 : Seconds(reading.at - before->second.at).count();
    if (apart > 0) {
      rated.known = true;
      rated.up = grown(flow.bytes_up, before->second.bytes_up) / apart;
      rated.down = grown(flow.bytes_down, before->second.bytes_down) / apart;
    } else if (before == seen_.end() && rates.known && !flow.cut_through &&
               std::chrono::milliseconds(flow.age_ms) < reading.at - last_.at) {
      // It began after the last reading: all of its bytes moved since. One that left the relay only has another name than before.
      rated.known = true;
      rated.up = static_cast<double>(flow.bytes_up) / seconds;
      rated.down = static_cast<double>(flow.bytes_down) / seconds;
    }
    if (flow.cut_through) {
      cut_up += rated.up;
      cut_down += rated.down;
    }
    seen_.insert_or_assign(flow.id, Seen{flow.bytes_up, flow.bytes_down, reading.at});
    rated.flow = std::move(flow);
    flows_.push_back(std::move(rated));
  }
  reading.flows.clear();
  std::erase_if(seen_, [&](const auto& each) { return reading.at - each.second.at > kMemory; });
  if (rates.known) {
    rates.up = grown(reading.bytes_up, last_.bytes_up) / seconds + cut_up;
    rates.down = grown(reading.bytes_down, last_.bytes_down) / seconds + cut_down;
    rates.connections = grown(reading.connections, last_.connections) / seconds;
    rates.sessions = grown(reading.sessions, last_.sessions) / seconds;
    rates.refusals = grown(reading.refusals, last_.refusals) / seconds;
    history_.push_back(rates);
    if (history_.size() > kHistory) history_.pop_front();
  }
  rates_ = rates;
  last_ = std::move(reading);
  any_ = true;
}

}  // namespace limpid::top
