// Policy first: what came to the listener itself is nobody's flow. Then the rules, then the policy again for those that are relayed.
#include "relay/decider.h"

#include <algorithm>
#include <new>
#include <string>

#include "relay/clock.h"

namespace limpid {
namespace {

constexpr int kDaysOfWeek = 7;
constexpr int kHoursOfDay = 24;
constexpr int kMinutesOfHour = 60;

AppProtocol app_protocol(SniffedProtocol protocol) noexcept {
  switch (protocol) {
    case SniffedProtocol::none: return AppProtocol::unknown;
    case SniffedProtocol::tls: return AppProtocol::tls;
    case SniffedProtocol::http1:
    case SniffedProtocol::http2: return AppProtocol::http;
    case SniffedProtocol::quic: return AppProtocol::quic;
    case SniffedProtocol::ssh: return AppProtocol::ssh;
    case SniffedProtocol::dns: return AppProtocol::dns;
  }
  return AppProtocol::unknown;
}

FlowFacts facts_of(Transport transport, const FlowKey& key) noexcept {
  return {.transport = transport,
          .client = key.client,
          .destination = key.original_destination,
          .time = {},
          .first_bytes = std::nullopt,
          .client_facts = nullptr};
}

FlowVerdict as_verdict(const Decision& decision) noexcept {
  if (decision.refusal)
    return {.action = FlowVerdict::Action::refuse, .refusal = *decision.refusal, .dial = {}, .ruling = {}};
  return {.action = FlowVerdict::Action::relay, .dial = decision.dial, .ruling = {}};
}

/// Whether the first bytes name the host that serves them. A question to a resolver names another one; localhost is nobody's name but one's own (RFC 6761, 6.3).
bool names_its_host(const Sniffed& sniffed) noexcept {
  const std::string_view name = sniffed.name.view();
  return sniffed.name.kind() == HostName::Kind::domain && sniffed.protocol != SniffedProtocol::dns &&
         name != "localhost" && !name.ends_with(".localhost");
}

}  // namespace

WeekMinute Decider::week_minute() noexcept {
  const std::time_t now = std::time(nullptr);
  if (now / kMinutesOfHour != minute_) {
    minute_ = now / kMinutesOfHour;
    std::tm local{};
    localtime_r(&now, &local);
    const int day = (local.tm_wday + kDaysOfWeek - 1) % kDaysOfWeek;  // tm's week begins on Sunday, ours on Monday
    week_minute_.value =
        static_cast<std::uint16_t>((day * kHoursOfDay + local.tm_hour) * kMinutesOfHour + local.tm_min);
  }
  return week_minute_;
}

FlowVerdict Decider::by_policy(const FlowKey& key) const noexcept {
  FlowVerdict verdict = as_verdict(policy_->decide(key));
  verdict.fixed_target = verdict.own_session = policy_->has_fixed_target();
  return verdict;
}

FlowVerdict Decider::apply(const Rule& rule, const FlowKey& key) const noexcept {
  switch (rule.action) {
    case FlowAction::direct:
    case FlowAction::bypass: {  // one that the kernel could not be told about
      FlowVerdict verdict = by_policy(key);
      verdict.dial.upstream = 0;
      verdict.dial.leg = rule.leg;
      if (rule.leg) verdict.own_session = true;
      return verdict;
    }
    case FlowAction::target: {
      FlowVerdict verdict =
          as_verdict(policy_->decide_to(key, {.address = *rule.target, .on_this_host = rule.target_on_this_host}));
      verdict.fixed_target = verdict.own_session = true;
      verdict.dial.upstream = 0;
      verdict.dial.leg = rule.leg;
      return verdict;
    }
    case FlowAction::via: {
      if (rule.upstream == 0) break;  // refused where configurations are read; nothing passes by mistake
      FlowVerdict verdict = by_policy(key);
      verdict.dial.upstream = rule.upstream;
      verdict.own_session = true;
      return verdict;
    }
    case FlowAction::drop: return {.action = FlowVerdict::Action::drop, .dial = {}, .ruling = {}};
    case FlowAction::reject: break;
  }
  return {.action = FlowVerdict::Action::reject, .dial = {}, .ruling = {}};
}

FlowVerdict Decider::decide(FlowFacts facts, const FlowKey& key, const FlowOrigin& origin,
                            std::shared_ptr<const Learnt> known) {
  const RulesAtWork* rules = rules_.rules();
  FlowVerdict verdict = by_policy(key);
  if (rules == nullptr) return verdict;
  if (verdict.action == FlowVerdict::Action::refuse && verdict.refusal == Refusal::direct) return verdict;
  if (known) facts.client_facts = &known->client;
  RuleVerdict found = rules->set().decide(facts);
  while (found.needs_client_facts()) {  // each turn learns something, so there are not many
    FactSet wanted = found.missing;
    wanted.remove(Fact::first_bytes);
    try {
      auto more = known ? std::make_shared<Learnt>(*known) : std::make_shared<Learnt>();
      reader_.learn(wanted, facts.transport, key, origin, more->client);
      known = std::move(more);
    } catch (const std::bad_alloc&) {
      return {.action = FlowVerdict::Action::reject, .dial = {}, .ruling = {}};  // nothing passes by mistake
    }
    facts.client_facts = &known->client;
    found = rules->set().decide(facts);
  }
  if (found.needs_first_bytes()) {
    verdict = {.action = FlowVerdict::Action::look, .dial = {}, .ruling = {}};
    verdict.ruling.learnt = std::move(known);
    return verdict;
  }
  if (found.rule != nullptr) {
    rules->count(found.number);
    verdict = apply(*found.rule, key);
    verdict.ruling.rule = static_cast<std::uint32_t>(found.number + 1);
    verdict.by_name =
        verdict.action == FlowVerdict::Action::relay && found.rule->goes_by_name() && !policy_->has_fixed_target();
  } else {
    rules->count_unmatched();
  }
  verdict.ruling.learnt = std::move(known);
  verdict.ruling.asked = true;
  return verdict;
}

std::optional<std::uint32_t> Decider::forbidden_by(Transport transport, const FlowKey& key, const Ruling& ruling,
                                                   const FlowOrigin* origin) {
  const RulesAtWork* rules = rules_.rules();
  if (rules == nullptr) return std::nullopt;
  FlowFacts facts = facts_of(transport, key);
  facts.time = week_minute();
  if (ruling.sniffed)
    facts.first_bytes = FirstBytes{.protocol = ruling.protocol, .name = ruling.name(), .ech = ruling.ech};
  try {
    ClientFacts client = ruling.learnt ? ruling.learnt->client : ClientFacts{};
    facts.client_facts = &client;
    RuleVerdict found = rules->set().decide(facts);
    while (origin != nullptr && found.needs_client_facts()) {
      FactSet wanted = found.missing;
      wanted.remove(Fact::first_bytes);
      reader_.learn(wanted, transport, key, *origin, client);
      found = rules->set().decide(facts);
    }
    const bool forbids = found.rule != nullptr && found.missing.empty() &&
                         (found.rule->action == FlowAction::reject || found.rule->action == FlowAction::drop);
    if (!forbids) return std::nullopt;
    return static_cast<std::uint32_t>(found.number + 1);
  } catch (const std::bad_alloc&) {
    return 0;
  }
}

FlowVerdict Decider::decide(Transport transport, const FlowKey& key, const FlowOrigin& origin) {
  const RulesAtWork* rules = rules_.rules();
  if (rules == nullptr) return by_policy(key);
  FlowFacts facts = facts_of(transport, key);
  if (rules->looks_at_time()) facts.time = week_minute();
  return decide(facts, key, origin, nullptr);
}

FlowVerdict Decider::decide(Transport transport, const FlowKey& key, const FlowOrigin& origin, SniffOutcome outcome,
                            const Sniffed& sniffed, const Ruling& earlier) {
  FlowFacts facts = facts_of(transport, key);
  facts.time = week_minute();
  FirstBytes bytes;
  if (outcome == SniffOutcome::found)
    bytes = {.protocol = app_protocol(sniffed.protocol), .name = sniffed.name.view(), .ech = sniffed.ech};
  std::shared_ptr<const std::string> hint;
  if (hints_ != nullptr && bytes.name.empty() && bytes.protocol != AppProtocol::dns)
    hint = hints_->find(key.client.address, key.original_destination.address, monotonic_ms());
  if (hint) bytes.name = *hint;
  facts.first_bytes = bytes;
  FlowVerdict verdict = decide(facts, key, origin, earlier.learnt);
  verdict.ruling.sniffed = true;
  verdict.ruling.protocol = bytes.protocol;
  verdict.ruling.ech = bytes.ech;
  verdict.by_name = verdict.by_name && outcome == SniffOutcome::found && names_its_host(sniffed);
  if (bytes.name.empty()) return verdict;
  try {
    auto learnt = std::make_shared<Learnt>();
    if (verdict.ruling.learnt) learnt->client = verdict.ruling.learnt->client;
    learnt->name = bytes.name;
    if (hint) learnt->name_source = NameSource::dns_hint;
    verdict.ruling.learnt = std::move(learnt);
  } catch (const std::bad_alloc&) {
    if (verdict.by_name) verdict.action = FlowVerdict::Action::reject;  // nothing passes by mistake
    return verdict;                                                     // the log has one name less
  }
  return verdict;
}

FlowVerdict Decider::dial_resolved(Transport transport, const FlowKey& key, FlowVerdict verdict,
                                   const ResolvedName& resolved, const FlowOrigin& origin) {
  verdict.by_name = false;
  if (std::ranges::find(resolved.addresses, key.original_destination.address) != resolved.addresses.end())
    return verdict;
  FlowVerdict refused{.action = FlowVerdict::Action::refuse,
                      .refusal = resolved.forbidden ? Refusal::forbidden_target : Refusal::unresolved_name,
                      .dial = {},
                      .ruling = verdict.ruling};
  for (const IpAddress& address : resolved.addresses) {
    const FlowKey moved{.client = key.client,
                        .original_destination = {.address = address, .port = key.original_destination.port}};
    if (const Decision decision = policy_->decide(moved); decision.refusal) {
      refused.refusal = *decision.refusal == Refusal::direct ? Refusal::self : *decision.refusal;
    } else if (const auto rule = forbidden_by(transport, moved, verdict.ruling, &origin)) {
      refused.action = FlowVerdict::Action::reject;
      refused.ruling.rule = *rule;
    } else {
      verdict.dial.target = moved.original_destination;
      verdict.fixed_target = verdict.own_session = true;
      return verdict;
    }
  }
  return refused;
}

}  // namespace limpid
