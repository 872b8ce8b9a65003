// The UDP session table against a slow, obvious oracle, and its limits.
#include "relay/udp_session_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <list>
#include <random>

namespace limpid {
namespace {

UdpSessionKey key(unsigned client, unsigned port, unsigned destination = 0) {
  const std::array<std::uint8_t, 16> bytes{192, 0, 2, static_cast<std::uint8_t>(client)};
  const std::array<std::uint8_t, 16> to{198, 51, 100, static_cast<std::uint8_t>(destination)};
  UdpSessionKey made;
  made.client = {.address = IpAddress::from_bytes(Family::ipv4, bytes), .port = Port{static_cast<std::uint16_t>(port)}};
  if (destination != 0) made.destination = {.address = IpAddress::from_bytes(Family::ipv4, to), .port = Port{53}};
  return made;
}

/// A list in order of last use, and linear searches: what the table must agree with.
class Oracle {
 public:
  struct Entry {
    UdpSessionKey key;
    bool answered = false;
  };
  explicit Oracle(const UdpLimits& limits) : limits_(limits) {}
  [[nodiscard]] Entry* find(const UdpSessionKey& wanted) {
    const auto found = std::ranges::find(entries_, wanted, &Entry::key);
    return found == entries_.end() ? nullptr : &*found;
  }
  void use(const UdpSessionKey& wanted) {
    const auto found = std::ranges::find(entries_, wanted, &Entry::key);
    entries_.splice(entries_.end(), entries_, found);
  }
  void add(const UdpSessionKey& added) { entries_.push_back({.key = added}); }
  void remove(const UdpSessionKey& removed) {
    std::erase_if(entries_, [&](const Entry& entry) { return entry.key == removed; });
  }
  [[nodiscard]] const UdpSessionKey* victim(const IpAddress& client) const {
    const auto is_own = [&](const Entry& entry) { return entry.key.client.address == client; };
    const bool own_share_is_used_up =
        static_cast<std::size_t>(std::ranges::count_if(entries_, is_own)) >= limits_.per_source;
    if (!own_share_is_used_up && entries_.size() < limits_.total) return nullptr;
    for (const bool answered : {false, true}) {
      for (const Entry& entry : entries_) {
        if (entry.answered == answered && (!own_share_is_used_up || is_own(entry))) return &entry.key;
      }
    }
    return nullptr;
  }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }

 private:
  UdpLimits limits_;
  std::list<Entry> entries_;  // least recently used first
};

TEST(UdpSessionTable, agrees_with_the_oracle_over_random_operations) {
  for (unsigned seed = 0; seed < 5; ++seed) {
    std::mt19937 random(seed);
    const UdpLimits limits{.total = 40, .per_source = 12};
    UdpSessionTable table(limits, seed);
    Oracle oracle(limits);
    for (std::uint64_t now = 1; now < 20'000; ++now) {
      const auto wanted = key(1 + static_cast<unsigned>(random() % 6), 1000 + static_cast<unsigned>(random() % 20));
      UdpSession* session = table.find(wanted);
      ASSERT_EQ(session != nullptr, oracle.find(wanted) != nullptr);
      if (session == nullptr) {
        while (UdpSession* victim = table.victim_for(wanted.client.address)) {
          const auto* expected = oracle.victim(wanted.client.address);
          ASSERT_NE(expected, nullptr);
          ASSERT_EQ(victim->key, *expected) << "seed " << seed << " step " << now;
          const auto removed = victim->key;
          table.destroy(*victim);
          oracle.remove(removed);
        }
        ASSERT_EQ(oracle.victim(wanted.client.address), nullptr);
        session = &table.create(wanted);
        oracle.add(wanted);
      }
      table.touch(*session, now);
      oracle.use(wanted);
      if (random() % 3 == 0) {
        table.mark_answered(*session);
        table.touch(*session, now);
        oracle.find(wanted)->answered = true;
      }
      if (random() % 50 == 0) {
        table.destroy(*session);
        oracle.remove(wanted);
      }
      ASSERT_EQ(table.size(), oracle.size());
      ASSERT_LE(table.size(), limits.total);
    }
  }
}

TEST(UdpSessionTable, a_stale_index_finds_nothing) {
  UdpSessionTable table({.total = 4, .per_source = 4}, 1);
  UdpSession& session = table.create(key(1, 1));
  const auto index = session.index;
  const auto generation = session.generation;
  EXPECT_EQ(table.find(index, generation), &session);
  table.destroy(session);
  EXPECT_EQ(table.find(index, generation), nullptr);
  EXPECT_EQ(table.create(key(2, 2)).index, index);
  EXPECT_EQ(table.find(index, generation), nullptr);
}

TEST(UdpSessionTable, destinations_tell_sessions_of_one_client_apart) {
  UdpSessionTable table({.total = 4, .per_source = 4}, 1);
  UdpSession& first = table.create(key(1, 1, 1));
  UdpSession& second = table.create(key(1, 1, 2));
  EXPECT_NE(&first, &second);
  EXPECT_EQ(table.find(key(1, 1, 1)), &first);
  EXPECT_EQ(table.find(key(1, 1, 2)), &second);
  EXPECT_EQ(table.find(key(1, 1)), nullptr);
}

TEST(UdpSessionTable, a_flood_of_unanswered_sources_leaves_answered_sessions_alone) {
  UdpSessionTable table({.total = 100, .per_source = 10}, 7);
  std::uint64_t now = 1;
  for (unsigned i = 0; i < 50; ++i) {
    UdpSession& session = table.create(key(1 + i, 5000));
    table.mark_answered(session);
    table.touch(session, now++);
  }
  for (unsigned i = 0; i < 100'000; ++i) {
    const auto spoofed = key(100 + i % 100, 1 + i % 60'000);
    if (table.find(spoofed) != nullptr) continue;
    while (UdpSession* victim = table.victim_for(spoofed.client.address)) {
      ASSERT_FALSE(victim->answered);
      table.destroy(*victim);
    }
    table.touch(table.create(spoofed), now++);
    ASSERT_LE(table.size(), 100U);
  }
  for (unsigned i = 0; i < 50; ++i) EXPECT_NE(table.find(key(1 + i, 5000)), nullptr);
}

}  // namespace
}  // namespace limpid
