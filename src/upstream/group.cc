// The choice among upstreams, and their health.
#include "upstream/group.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "upstream/handshake.h"

namespace limpid {
namespace {

/// splitmix64's finisher: every bit of the input moves every bit of the result.
std::uint64_t mix(std::uint64_t value) noexcept {
  value = (value ^ (value >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27U)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31U);
}

std::uint64_t hash_of(std::string_view text) noexcept {
  std::uint64_t hash = 0x9e3779b97f4a7c15ULL;
  for (const char c : text) hash = mix(hash ^ static_cast<std::uint8_t>(c));
  return hash;
}

std::uint64_t hash_of(const IpAddress& address) noexcept {
  std::uint64_t hash = address.bits();
  for (const auto byte : address.bytes()) hash = mix(hash ^ byte);
  return hash;
}

}  // namespace

std::string_view to_string(UpstreamChoice choice) noexcept {
  switch (choice) {
    case UpstreamChoice::order: return "order";
    case UpstreamChoice::round_robin: return "round-robin";
    case UpstreamChoice::least_latency: return "least-latency";
    case UpstreamChoice::source_hash: return "source-hash";
  }
  return "";
}

UpstreamGroup::UpstreamGroup(UpstreamGroupOptions options, UpstreamGroup* via)
    : options_(std::move(options)),
      via_(via),
      health_(std::make_unique<Health[]>(options_.members.size())) {  // NOLINT(*-avoid-c-arrays)
  for (unsigned i = 0; i < options_.members.size(); ++i) {
    const Upstream& member = options_.members[i];
    hashes_.push_back(hash_of(member.name));
    if (member.server) move_server(i, {.address = *member.server, .on_this_host = member.on_this_host});
  }
}

bool UpstreamGroup::move_server(unsigned index, const UpstreamServer& server) {
  const std::lock_guard lock(servers_mutex_);
  const auto* const before = health_[index].server.load(std::memory_order_relaxed);
  const auto is_it = [&](const UpstreamServer& known) {
    return known.address == server.address && known.on_this_host == server.on_this_host;
  };
  if (before != nullptr && is_it(*before)) return false;
  // A name that moves between two places does not make the list longer.
  auto known = std::ranges::find_if(servers_, is_it);
  if (known == servers_.end()) known = servers_.insert(servers_.end(), server);
  health_[index].server.store(&*known, std::memory_order_release);
  return true;
}

bool UpstreamGroup::is_checked(unsigned index) const noexcept {
  if (options_.check_interval.count() == 0) return false;
  const bool reaches_target = options_.check_target && options_.members[index].kind == UpstreamKind::direct;
  return reaches_target || !options_.members[index].host.empty();
}

void UpstreamGroup::inherit(const UpstreamGroup& before) noexcept {
  for (std::size_t i = 0; i < options_.members.size(); ++i) {
    for (std::size_t j = 0; j < before.options_.members.size(); ++j) {
      if (options_.members[i].name != before.options_.members[j].name) continue;
      Health& own = health_[i];
      const Health& theirs = before.health_[j];
      const bool same = options_.members[i] == before.options_.members[j];
      const auto copy = [](auto& to, const auto& from) {
        to.store(from.load(std::memory_order_relaxed), std::memory_order_relaxed);
      };
      copy(own.flows, theirs.flows);
      copy(own.failures, theirs.failures);
      if (!same) continue;
      copy(own.up, theirs.up);
      copy(own.failures_in_a_row, theirs.failures_in_a_row);
      copy(own.successes_in_a_row, theirs.successes_in_a_row);
      copy(own.retry_ms, theirs.retry_ms);
      copy(own.latency_us, theirs.latency_us);
    }
  }
}

bool UpstreamGroup::may_take(unsigned index, const Question& question, std::uint64_t now_ms) const noexcept {
  if ((question.tried >> index & 1U) != 0) return false;
  const Upstream& upstream = options_.members[index];
  // Datagrams would need an association with each link of a chain.
  if (question.datagrams && (!carries_datagrams(upstream.kind) || via_ != nullptr)) return false;
  const UpstreamServer* at = server(index);
  if (!can_reach(upstream, at == nullptr ? question.destination : at->address, question.destination,
                 question.has_name)) {
    return false;
  }
  const Health& health = health_[index];
  if (health.up.load(std::memory_order_relaxed)) return true;
  return !is_checked(index) && now_ms >= health.retry_ms.load(std::memory_order_relaxed);
}

std::optional<unsigned> UpstreamGroup::choose(const Question& question, std::uint64_t now_ms) noexcept {
  const auto count = static_cast<unsigned>(options_.members.size());
  const bool first = question.tried == 0;
  const std::size_t turn = options_.choice == UpstreamChoice::round_robin && first
                               ? turn_.fetch_add(1, std::memory_order_relaxed)
                               : turn_.load(std::memory_order_relaxed);
  const std::uint64_t client = options_.choice == UpstreamChoice::source_hash ? hash_of(question.client) : 0;
  std::optional<unsigned> best;
  std::uint64_t best_rank = 0;
  for (unsigned i = 0; i < count; ++i) {
    const auto index = options_.choice == UpstreamChoice::round_robin ? static_cast<unsigned>((turn + i) % count) : i;
    if (!may_take(index, question, now_ms)) continue;
    std::uint64_t rank = 0;  // the smallest wins
    switch (options_.choice) {
      case UpstreamChoice::order:
      case UpstreamChoice::round_robin: return index;
      case UpstreamChoice::least_latency: rank = health_[index].latency_us.load(std::memory_order_relaxed); break;
      case UpstreamChoice::source_hash: rank = mix(client ^ hashes_[index]); break;  // rendezvous hashing
    }
    if (best && rank >= best_rank) continue;
    best = index;
    best_rank = rank;
  }
  return best;
}

void UpstreamGroup::succeeded(unsigned member, std::uint64_t latency_us) noexcept {
  Health& health = health_[member];
  health.failures_in_a_row.store(0, std::memory_order_relaxed);
  health.up.store(true, std::memory_order_relaxed);
  note_latency(health, latency_us);
}

void UpstreamGroup::note_latency(Health& health, std::uint64_t latency_us) noexcept {
  if (latency_us == 0) return;
  const auto before = health.latency_us.load(std::memory_order_relaxed);
  health.latency_us.store(before == 0 ? latency_us : (before * 7 + latency_us) / 8, std::memory_order_relaxed);
}

bool UpstreamGroup::note_failure(Health& health, std::uint64_t now_ms) noexcept {
  health.successes_in_a_row.store(0, std::memory_order_relaxed);
  const unsigned in_a_row = health.failures_in_a_row.fetch_add(1, std::memory_order_relaxed) + 1;
  if (in_a_row < options_.fall) return false;
  health.failures_in_a_row.store(options_.fall - 1, std::memory_order_relaxed);
  health.retry_ms.store(now_ms + kRetryMs, std::memory_order_relaxed);
  return health.up.exchange(false, std::memory_order_relaxed);
}

void UpstreamGroup::failed(unsigned member, std::uint64_t now_ms) noexcept {
  Health& health = health_[member];
  health.failures.fetch_add(1, std::memory_order_relaxed);
  note_failure(health, now_ms);
}

void UpstreamGroup::count_flow(unsigned member) noexcept {
  health_[member].flows.fetch_add(1, std::memory_order_relaxed);
}

bool UpstreamGroup::checked(unsigned member, bool healthy, std::uint64_t latency_us) noexcept {
  Health& health = health_[member];
  if (!healthy) return note_failure(health, 0);
  const unsigned in_a_row = health.successes_in_a_row.fetch_add(1, std::memory_order_relaxed) + 1;
  if (health.up.load(std::memory_order_relaxed)) {
    // Not the failures in a row: flows may fail where a check succeeds.
    note_latency(health, latency_us);
    return false;
  }
  if (in_a_row < options_.rise) return false;
  succeeded(member, latency_us);
  return true;
}

UpstreamState UpstreamGroup::state(unsigned index) const noexcept {
  const Health& health = health_[index];
  return {.up = health.up.load(std::memory_order_relaxed),
          .flows = health.flows.load(std::memory_order_relaxed),
          .failures = health.failures.load(std::memory_order_relaxed),
          .latency_us = health.latency_us.load(std::memory_order_relaxed)};
}

}  // namespace limpid
