// Datagrams that go by name: those that come while the name is looked up are held like those of a handshake in several, and go on in order or not at all. Part of
// UdpEngine.
#include <new>
#include <utility>

#include "relay/udp_engine.h"

namespace limpid {
namespace {

/// A handshake has few before its server has answered; a flood waits for no name.
constexpr std::size_t kMostHeldForName = 64;
/// How long datagrams are held for a name: their senders try again long before.
constexpr std::uint64_t kPatienceMs = 5'000;
/// What led nowhere is asked for again after this time: the client's port may live for long.
constexpr std::uint64_t kRetryMs = 5'000;

}  // namespace

/// True while the name is being looked up; what becomes of the datagrams is decided then.
bool UdpEngine::awaits_name(UdpSession& entry) {
  UdpRuling& ruling = *entry.decided;
  if (!ruling.verdict.by_name || ruling.verdict.dial.upstream != 0) return false;  // the upstream looks it up
  const FlowKey key{.client = entry.key.client, .original_destination = entry.key.destination};
  NameLookups::Asked asked;
  try {
    if (options_.names != nullptr)
      asked = options_.names->ask(ruling.verdict.ruling.name(), key.original_destination.family(), key.client.address,
                                  now_ms_ + kPatienceMs, options_.mailbox,
                                  {.index = entry.index, .generation = entry.generation, .datagrams = true});
  } catch (const std::bad_alloc&) {
    asked = {};
  }
  switch (asked.outcome) {
    case NameLookups::Outcome::waiting:
      counters_.add(Counter::names_asked);
      ruling.state = UdpRuling::State::resolving;
      ruling_timers_.schedule(entry.index, now_ms_ + kPatienceMs);
      return true;
    case NameLookups::Outcome::known:
      counters_.add(Counter::names_cached);
      follow_name(entry, *asked.resolved);
      return false;
    case NameLookups::Outcome::refused: break;
  }
  follow_name(entry, {});
  return false;
}

void UdpEngine::follow_name(UdpSession& entry, const ResolvedName& resolved) {
  UdpRuling& ruling = *entry.decided;
  const FlowKey key{.client = entry.key.client, .original_destination = entry.key.destination};
  ruling.verdict = decider_.dial_resolved(Transport::udp, key, std::move(ruling.verdict), resolved, ruling.origin);
  const bool leads_nowhere = ruling.verdict.action == FlowVerdict::Action::refuse;
  ruling.void_from_ms = leads_nowhere ? now_ms_ + kRetryMs : UINT64_MAX;
}

/// One more of those that wait.
void UdpEngine::hold_for_name(UdpRuling& ruling, const ReceivedDatagram& datagram) {
  if (ruling.held.size() >= kMostHeldForName || !hold(ruling, datagram)) counters_.add(Counter::udp_dropped);
}

void UdpEngine::take_name(const NameNews& news, std::uint64_t now_ms) {
  now_ms_ = now_ms;
  UdpSession* entry = rulings_.find(news.asker.index, news.asker.generation);
  if (entry == nullptr || entry->decided->state != UdpRuling::State::resolving) return;
  follow_name(*entry, *news.resolved);
  conclude(*entry);
}

/// It took too long, or there is no room for it any more.
void UdpEngine::give_up_name(UdpSession& entry) {
  follow_name(entry, {});
  conclude(entry);
}

}  // namespace limpid
