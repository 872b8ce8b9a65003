// Lists in the order of learning, and maps that find their places. The mutex is held for a few look-ups at most.
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
    Client& whose = client_at(client);
    for (std::size_t i = 0; i < answer.count; ++i) {
      hint.address = IpAddress::from_bytes(answer.question.ipv6 ? Family::ipv6 : Family::ipv4, answer.addresses.at(i));
      remember(whose, hint);
    }
  } catch (const std::bad_alloc&) {
    clients_.clear();
    order_.clear();
    count_ = 0;
  }
}

/// The latest from now on.
NameHints::Client& NameHints::client_at(const IpAddress& address) {
  if (const auto known = clients_.find(address); known != clients_.end()) {
    order_.splice(order_.begin(), order_, known->second.place);
    return known->second;
  }
  order_.push_front(address);
  Client& client = clients_[address];
  client.place = order_.begin();
  return client;
}

void NameHints::remember(Client& client, const Hint& hint) {
  if (const auto known = client.by_address.find(hint.address); known != client.by_address.end()) {
    *known->second = hint;
    client.hints.splice(client.hints.begin(), client.hints, known->second);
    return;
  }
  if (client.hints.size() >= most_of_client_) {
    drop_oldest(client);
  } else if (count_ >= most_) {
    const auto last = clients_.find(order_.back());
    drop_oldest(last->second);
    if (last->second.hints.empty() && &last->second != &client) {
      order_.pop_back();
      clients_.erase(last);
    }
  }
  client.hints.push_front(hint);
  client.by_address.emplace(hint.address, client.hints.begin());
  ++count_;
}

void NameHints::drop_oldest(Client& client) noexcept {
  client.by_address.erase(client.hints.back().address);
  client.hints.pop_back();
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
