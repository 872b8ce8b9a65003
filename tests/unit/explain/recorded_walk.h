// Tables as nft listed them and messages as a kernel could send them, for tests of what is made of both.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "explain/verdict.h"
#include "explain/words.h"

namespace limpid {

inline std::string recorded_text(const std::string& name) {
  std::ifstream file(std::string(LIMPID_TESTS_DIR) + "/fuzz/seeds/" + name, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(file), {});
  EXPECT_FALSE(text.empty()) << name;
  return text;
}

inline std::optional<TraceEvent> recorded_event(const std::string& name) {
  const std::string text = recorded_text("nft_trace/" + name);
  return parse_trace_message(std::as_bytes(std::span(text)));
}

/// An instance "limpid" with the rules of `listing`, and the tables of `limpid trace`.
class RecordedWalk : public ::testing::Test {
 protected:
  void install(const std::string& listing) {
    rules_.add({.family = "inet", .name = "limpid"}, parse_listing(recorded_text(listing)));
    rules_.add(
        {.family = "inet", .name = std::string(kTraceTable)},
        {{std::string(kArrivalChain), {.hook = "prerouting", .priority = "", .policy = "accept", .rules = {}}},
         {std::string(kDeliveryChain), {.hook = "input", .priority = "", .policy = "accept", .rules = {}}},
         {std::string(kDepartureChain), {.hook = "postrouting", .priority = "", .policy = "accept", .rules = {}}}});
    surroundings_.rules = &rules_;
    surroundings_.interfaces = {{1, "lo"}, {2, "lan"}, {3, "wan"}};
    Ownership ownership;
    ownership.name = "limpid";
    ownership.listener.value = 3129;
    surroundings_.instances.emplace("limpid", ownership);
    events_.clear();
  }

  /// The packet arrives.
  void arrive(std::string_view from, std::string_view to, std::uint8_t protocol = 6) {
    TraceEvent event = made(kTraceTable, kArrivalChain, TraceKind::policy, TraceVerdict::accept);
    event.input_interface = 2;
    event.packet = TracedPacket{.source = SocketAddress::parse(from).value(),
                                .destination = SocketAddress::parse(to).value(),
                                .protocol = protocol,
                                .tcp_flags = 2,
                                .after_ports = {},
                                .payload = {}};
    events_.push_back(event);
  }
  /// A rule of the instance's whose text begins like this matches.
  void match(const std::string& chain, std::string_view beginning, TraceVerdict verdict,
             const std::string& target = {}) {
    TraceEvent event = made("limpid", chain, TraceKind::rule, verdict);
    const ListedChain* listed = rules_.find({.family = "inet", .name = "limpid"}, chain);
    ASSERT_NE(listed, nullptr) << chain;
    for (const ListedRule& rule : listed->rules) {
      if (rule.text.starts_with(beginning)) event.rule_handle = rule.handle;
    }
    ASSERT_NE(event.rule_handle, 0U) << beginning;
    event.target = target;
    events_.push_back(event);
  }
  void policy(const std::string& chain) {
    events_.push_back(made("limpid", chain, TraceKind::policy, TraceVerdict::accept));
  }
  void leave() {
    events_.push_back(made(kTraceTable, kDepartureChain, TraceKind::policy, TraceVerdict::accept));
    events_.back().output_interface = 3;
    events_.back().packet = events_.front().packet;
  }
  void deliver() { events_.push_back(made(kTraceTable, kDeliveryChain, TraceKind::policy, TraceVerdict::accept)); }

  [[nodiscard]] Verdict verdict() const { return judge(walk_of_packet(events_, surroundings_), surroundings_, {}); }
  [[nodiscard]] const Surroundings& surroundings() const { return surroundings_; }
  RuleBook& rules() { return rules_; }

 private:
  static TraceEvent made(std::string_view table, std::string_view chain, TraceKind kind, TraceVerdict verdict) {
    TraceEvent event;
    event.id = 1;
    event.family = "inet";
    event.table = table;
    event.chain = chain;
    event.kind = kind;
    event.verdict = verdict;
    return event;
  }

  RuleBook rules_;
  Surroundings surroundings_;
  std::vector<TraceEvent> events_;
};

}  // namespace limpid
