// Flows that began by other rules, held against those of now (`limpid reload --abort`): an errand that goes on from turn to turn. Part of Worker.
#include "relay/clock.h"
#include "relay/worker.h"

namespace limpid {
namespace {

/// A rule may want to know more of a client than is known yet, and ask /proc for it: so a turn ends by the clock as well. Each looks at one flow at least.
constexpr std::uint32_t kFlowsPerTurn = 512;
constexpr std::uint32_t kTurnUs = 1000;

}  // namespace

/// A part of it. True when all have been looked at. Flows that begin meanwhile meet the rules of now anyhow.
bool Worker::audit(FlowErrand& errand) {
  const std::uint32_t began_us = monotonic_us_low();
  for (std::uint32_t looked = 0; looked < kFlowsPerTurn; ++looked) {
    if (!errand.in_udp) {
      if (errand.next >= flows_.capacity()) {
        errand.in_udp = true;
        errand.next = 0;
        continue;
      }
      const std::uint32_t index = errand.next++;
      if (end_if_forbidden(index)) ++errand.ended;
    } else {
      if (udp_ == nullptr || errand.next >= udp_->slots()) return true;
      if (udp_->end_if_forbidden(errand.next++)) ++errand.ended;
    }
    if (monotonic_us_low() - began_us >= kTurnUs) return false;
  }
  return false;
}

bool Worker::end_if_forbidden(std::uint32_t index) {
  Flow* flow = flows_.at(index);
  // Those that nothing was decided about are going to meet the rules of now; those that are dropped need no second end.
  if (flow == nullptr || flow->state == FlowState::introducing || flow->state == FlowState::deciding ||
      flow->state == FlowState::ignoring)
    return false;
  const FlowOrigin origin{.accepted = flow->client.fd.get()};
  const auto rule = decider_.forbidden_by(
      Transport::tcp, {.client = flow->client_address, .original_destination = flow->original_destination},
      flow->ruling, &origin);
  if (!rule) return false;
  flow->ruling.rule = *rule;
  end_flow(*flow, {.index = index, .generation = flow->generation}, FlowEnd::rejected, Closing::with_reset);
  return true;
}

}  // namespace limpid
