// Look-up through a seeded hash map, order through two intrusive lists over the slots.
#include "relay/udp_session_table.h"

#include <algorithm>
#include <cstring>

namespace limpid {
namespace {

/// The finalizer of SplitMix64: every input bit reaches every output bit.
std::uint64_t mix(std::uint64_t value) noexcept {
  value = (value ^ (value >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27U)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31U);
}

std::uint64_t hash_address(std::uint64_t seed, const IpAddress& address) noexcept {
  std::array<std::uint64_t, 2> words{};
  std::memcpy(words.data(), address.bytes().data(), sizeof words);
  return mix(mix(seed ^ words[0]) ^ words[1]);
}

}  // namespace

std::size_t UdpSessionTable::Hash::operator()(const UdpSessionKey& key) const noexcept {
  const std::uint64_t client = hash_address(seed, key.client.address) ^ key.client.port.value;
  return mix(hash_address(mix(client), key.destination.address) ^ key.destination.port.value);
}

std::size_t UdpSessionTable::Hash::operator()(const IpAddress& address) const noexcept {
  return hash_address(seed, address);
}

UdpSessionTable::UdpSessionTable(const UdpLimits& limits, std::uint64_t seed)
    : limits_(limits), by_key_(16, Hash{seed}), by_source_(16, Hash{seed}) {}

UdpSession* UdpSessionTable::find(const UdpSessionKey& key) noexcept {
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? nullptr : &slots_[found->second];
}

UdpSession* UdpSessionTable::find(std::uint32_t index, std::uint32_t generation) noexcept {
  UdpSession* session = at(index);
  return session != nullptr && session->generation == generation ? session : nullptr;
}

UdpSession* UdpSessionTable::at(std::uint32_t index) noexcept {
  if (index >= slots_.size() || (slots_[index].generation & 1U) == 0) return nullptr;
  return &slots_[index];
}

UdpSession* UdpSessionTable::victim_for(const IpAddress& client) noexcept {
  const auto own = by_source_.find(client);
  if (own != by_source_.end() && own->second.size() >= limits_.per_source) return oldest_of(client);
  if (size() < limits_.total) return nullptr;
  const std::uint32_t oldest = queues_[0].oldest != kNone ? queues_[0].oldest : queues_[1].oldest;
  return oldest == kNone ? nullptr : &slots_[oldest];
}

UdpSession* UdpSessionTable::oldest_of(const IpAddress& client) noexcept {
  const auto& own = by_source_.find(client)->second;
  const auto index = std::ranges::min(
      own, {}, [this](std::uint32_t at) { return std::pair(slots_[at].answered, slots_[at].last_activity_ms); });
  return &slots_[index];
}

UdpSession& UdpSessionTable::create(const UdpSessionKey& key) {
  if (free_.empty()) {
    free_.push_back(static_cast<std::uint32_t>(slots_.size()));
    slots_.emplace_back();
  }
  const std::uint32_t index = free_.back();
  free_.pop_back();
  UdpSession& session = slots_[index];
  ++session.generation;
  session.index = index;
  session.key = key;
  by_key_.emplace(key, index);
  by_source_[key.client.address].push_back(index);
  link(session);
  return session;
}

void UdpSessionTable::destroy(UdpSession& session) noexcept {
  const std::uint32_t index = session.index;
  unlink(session);
  const auto source = by_source_.find(session.key.client.address);
  std::erase(source->second, index);
  if (source->second.empty()) by_source_.erase(source);
  by_key_.erase(session.key);
  const std::uint32_t generation = session.generation + 1;
  session = UdpSession{};
  session.generation = generation;
  free_.push_back(index);
}

void UdpSessionTable::touch(UdpSession& session, std::uint64_t now_ms) noexcept {
  session.last_activity_ms = now_ms;
  const Queue& queue = queue_of(session);
  if (queue.newest == session.index) return;
  unlink(session);
  link(session);
}

void UdpSessionTable::mark_answered(UdpSession& session) noexcept {
  if (session.answered) return;
  unlink(session);
  session.answered = true;
  link(session);
}

void UdpSessionTable::link(UdpSession& session) noexcept {
  const std::uint32_t index = session.index;
  Queue& queue = queue_of(session);
  session.newer = kNone;
  session.older = queue.newest;
  if (queue.newest != kNone) slots_[queue.newest].newer = index;
  queue.newest = index;
  if (queue.oldest == kNone) queue.oldest = index;
}

void UdpSessionTable::unlink(UdpSession& session) noexcept {
  Queue& queue = queue_of(session);
  (session.newer == kNone ? queue.newest : slots_[session.newer].older) = session.older;
  (session.older == kNone ? queue.oldest : slots_[session.older].newer) = session.newer;
}

}  // namespace limpid
