// Lists in the order of learning, maps that find their places, and a set of the clients by how much they have. The mutex is held for a few look-ups at most.
#include "relay/name_hints.h"

#include <algorithm>
#include <new>
#include <utility>

namespace limpid {
namespace {

std::uint64_t milliseconds(std::chrono::seconds time) noexcept {
  return static_cast<std::uint64_t>(std::chrono::milliseconds(time).count());
}

}  // namespace

void NameHints::learn(const IpAddress& client, const DnsAnswer& answer, std::uint64_t now_ms) noexcept {
  const auto kept = std::clamp(std::chrono::seconds(answer.ttl_seconds), kLeastKept, kMostKept);
  const std::lock_guard lock(mutex_);
  try {
    Hint hint{.address = {},
              .name = std::make_shared<const std::string>(answer.question.name.view()),
              .until_ms = now_ms + milliseconds(kept)};
    const auto whose = client_at(client);
    for (std::size_t i = 0; i < answer.count; ++i) {
      hint.address = IpAddress::from_bytes(answer.question.ipv6 ? Family::ipv6 : Family::ipv4, answer.addresses.at(i));
      remember(whose, hint);
    }
  } catch (const std::bad_alloc&) {
    clients_.clear();
    ranks_.clear();
    count_ = 0;
  }
}

/// The entry is moved, not made anew: nothing is allocated.
template <class Change>
void NameHints::change_rank(Clients::iterator client, Change change) noexcept {
  auto& [address, facts] = *client;
  auto rank = ranks_.extract({.hints = facts.hints.size(), .latest = facts.latest, .client = address});
  change(facts);
  rank.value() = {.hints = facts.hints.size(), .latest = facts.latest, .client = address};
  ranks_.insert(std::move(rank));
}

/// The latest from now on.
NameHints::Clients::iterator NameHints::client_at(const IpAddress& address) {
  const auto [client, is_new] = clients_.try_emplace(address);
  if (is_new) {
    client->second.latest = ++learnt_;
    ranks_.insert({.hints = 0, .latest = client->second.latest, .client = address});
  } else {
    change_rank(client, [this](Client& facts) { facts.latest = ++learnt_; });
  }
  return client;
}

void NameHints::remember(Clients::iterator client, const Hint& hint) {
  auto& facts = client->second;
  if (const auto known = facts.by_address.find(hint.address); known != facts.by_address.end()) {
    *known->second = hint;
    facts.hints.splice(facts.hints.begin(), facts.hints, known->second);
    return;
  }
  make_room(client);
  std::list<Hint> added{hint};
  facts.by_address.emplace(hint.address, added.begin());
  change_rank(client, [&](Client& changed) { changed.hints.splice(changed.hints.begin(), added); });
  ++count_;
}

void NameHints::make_room(Clients::iterator client) noexcept {
  if (client->second.hints.size() >= most_of_client_) return drop_oldest(client);
  if (count_ < most_) return;
  const auto most = clients_.find(ranks_.rbegin()->client);
  drop_oldest(most);
  if (!most->second.hints.empty() || most == client) return;
  ranks_.erase({.hints = 0, .latest = most->second.latest, .client = most->first});
  clients_.erase(most);
}

void NameHints::drop_oldest(Clients::iterator client) noexcept {
  change_rank(client, [](Client& facts) {
    facts.by_address.erase(facts.hints.back().address);
    facts.hints.pop_back();
  });
  --count_;
}

std::shared_ptr<const std::string> NameHints::find(const IpAddress& client, const IpAddress& address,
                                                   std::uint64_t now_ms) const noexcept {
  const std::lock_guard lock(mutex_);
  const auto whose = clients_.find(client);
  if (whose == clients_.end()) return nullptr;
  const auto known = whose->second.by_address.find(address);
  if (known == whose->second.by_address.end() || known->second->until_ms <= now_ms) return nullptr;
  return known->second->name;
}

std::size_t NameHints::size() const noexcept {
  const std::lock_guard lock(mutex_);
  return count_;
}

}  // namespace limpid
