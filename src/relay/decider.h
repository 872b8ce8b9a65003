// Decider: what is done with a new flow, asked by a worker or its UDP engine: the policy says whom a flow may reach at all, and the rules say
// which flows are relayed, sent elsewhere, rejected or dropped. One for each thread. What a decision depends on beside addresses, it asks its
// ClientFactReader for; the bytes of a flow it leaves to its caller.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>

#include "net/endpoint.h"
#include "policy/current_rules.h"
#include "policy/decision.h"
#include "relay/client_fact_reader.h"
#include "relay/flow_record.h"
#include "relay/name_cache.h"
#include "relay/name_hints.h"
#include "sniff/sniffed.h"

namespace limpid {

struct FlowVerdict {
  enum class Action : std::uint8_t {
    relay,   ///< to `dial`
    refuse,  ///< as `refusal` says
    reject,
    drop,
    look,  ///< it depends on the first bytes: ask again with them
  };
  Action action = Action::relay;
  Refusal refusal = Refusal::direct;
  bool fixed_target = false;  ///< relay: the client knows the target by the original destination
  bool by_name = false;       ///< relay: to where the name leads that it asks for, and not yet to `dial`
  bool own_session = false;   ///< relay: datagrams to this destination do not share the client's session with others
  Dial dial;
  Ruling ruling;
};

class Decider {
 public:
  /// `rules` may be nullptr. `hints` names flows that do not say it themselves, and outlives the decider; nullptr: nobody does.
  Decider(std::shared_ptr<const Policy> policy, std::shared_ptr<const CurrentRules> rules,
          const NameHints* hints = nullptr) noexcept
      : policy_(std::move(policy)), rules_(std::move(rules)), hints_(hints) {}

  /// Whether there is any rule now.
  [[nodiscard]] bool has_rules() { return rules_.rules() != nullptr; }
  /// Whether any rule may want this.
  [[nodiscard]] bool may_ask_for(Fact fact) {
    const RulesAtWork* rules = rules_.rules();
    return rules != nullptr && rules->asks_for().has(fact);
  }
  /// `verdict.by_name`, and this is where the name leads: it is dialled there, if that passes as a destination of this client's would. Where the client has dialled
  /// one of the addresses itself, it stays.
  [[nodiscard]] FlowVerdict dial_resolved(Transport transport, const FlowKey& key, FlowVerdict verdict,
                                          const ResolvedName& resolved, const FlowOrigin& origin);
  /// From what is known, or can be learnt, when a flow begins.
  [[nodiscard]] FlowVerdict decide(Transport transport, const FlowKey& key, const FlowOrigin& origin);
  /// With its first bytes: anything but `look`. An outcome other than found is what rules call unknown. `earlier`: the ruling that said `look`. Where the bytes have no
  /// name, and are no question to a resolver, a hint stands in for it.
  [[nodiscard]] FlowVerdict decide(Transport transport, const FlowKey& key, const FlowOrigin& origin,
                                   SniffOutcome outcome, const Sniffed& sniffed, const Ruling& earlier);
  /// The rule (from 1) by which those of now reject or drop a flow that was decided as `ruling` says; 0 where there is no memory to ask them, so that nothing passes by
  /// mistake. Empty: none does, or it depends on what was not learnt then. That is asked for if there is an `origin`; first bytes have passed.
  [[nodiscard]] std::optional<std::uint32_t> forbidden_by(Transport transport, const FlowKey& key, const Ruling& ruling,
                                                          const FlowOrigin* origin);

 private:
  [[nodiscard]] FlowVerdict decide(FlowFacts facts, const FlowKey& key, const FlowOrigin& origin,
                                   std::shared_ptr<const Learnt> known);
  [[nodiscard]] FlowVerdict by_policy(const FlowKey& key) const noexcept;
  [[nodiscard]] FlowVerdict apply(const Rule& rule, const FlowKey& key) const noexcept;
  [[nodiscard]] WeekMinute week_minute() noexcept;

  std::shared_ptr<const Policy> policy_;
  RuleReader rules_;
  const NameHints* hints_;
  ClientFactReader reader_;
  std::time_t minute_ = -1;  ///< since the epoch; of which `week_minute_` is the local time
  WeekMinute week_minute_;
};

}  // namespace limpid
