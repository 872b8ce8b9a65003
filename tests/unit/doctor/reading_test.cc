// What the doctor reads out of other programs' texts, and where a probe's counters say that its packet was lost.
#include <gtest/gtest.h>

#include <string>

#include "doctor/counters.h"
#include "doctor/iptables.h"
#include "doctor/probe_table.h"
#include "doctor/probe_verdict.h"
#include "doctor/services.h"

namespace limpid::doctor {
namespace {

TEST(Iptables, rules_are_numbered_within_their_chain_and_keep_their_words) {
  Iptables tables;
  parse_iptables(
      "# Generated\n*mangle\n:PREROUTING ACCEPT [0:0]\n:DIVERT - [0:0]\n"
      "-A PREROUTING -p tcp -m comment --comment \"two \\\"words\\\"\" -j DIVERT\n-A DIVERT -j ACCEPT\n-A PREROUTING "
      "-j TPROXY --on-port 1\n"
      "COMMIT\n*filter\n:INPUT DROP [3:4]\nCOMMIT\n",
      tables);
  ASSERT_EQ(tables.rules.size(), 3U);
  EXPECT_EQ(tables.rules[0].after("--comment"), "two \"words\"");
  EXPECT_EQ(tables.rules[0].target(), "DIVERT");
  EXPECT_EQ(tables.rules[2].number, 2U);
  EXPECT_EQ(tables.rules[2].table, "mangle");
  ASSERT_EQ(tables.chains.size(), 3U);
  EXPECT_TRUE(tables.chains[2].drops_by_policy);
  EXPECT_FALSE(tables.chains[0].drops_by_policy);
}

TEST(Counters, are_found_by_group_and_name) {
  const std::string text =
      "TcpExt: SyncookiesSent IPReversePathFilter\nTcpExt: 3 42\nIpExt: InNoRoutes IPReversePathFilter\nIpExt: 1 7\n";
  EXPECT_EQ(find_counter(text, "TcpExt:", "IPReversePathFilter"), 42U);
  EXPECT_EQ(find_counter(text, "IpExt:", "IPReversePathFilter"), 7U);
  EXPECT_EQ(find_counter(text, "TcpExt:", "Nothing"), 0U);
}

TEST(Settings, the_last_one_of_the_right_section_counts) {
  const std::string text = "[Match]\nKey=wrong\n[Network]\n# Key=comment\n Key = yes \nKey=no\n[Other]\nKey=later\n";
  EXPECT_EQ(find_setting(text, "Network", "Key"), "no");
  EXPECT_EQ(find_setting(text, "Network", "Missing"), "");
}

/// A probe of TCP over IPv4 that met two foreign chains in the input hook, at 0 and at 10.
struct Probe {
  Facts facts;
  Judged judged;
  ProbeStream stream{.transport = Transport::tcp,
                     .family = Family::ipv4,
                     .client = IpAddress::parse("203.0.113.226").value(),
                     .target = IpAddress::parse("203.0.113.230").value(),
                     .port = Port{80}};
  ProbeStations stations{.prerouting = {-2000000, -150, 2000000},
                         .input = {-2000000, 0, 10, 2000000},
                         .output = {-2000000, 2000000},
                         .postrouting = {-2000000, 2000000}};
  ProbeTrace trace{
      .prerouting = {3, 3, 3}, .input = {3, 3, 3, 3}, .output = {2, 2}, .postrouting = {2, 2}, .marked = 3};
  ProbeOutcome outcome{.connected = true};

  Probe() {
    judged.ownership.name = "limpid";
    judged.ownership.keeper = Keeper::process;
    judged.ownership.mark = {.mask = 3, .intercept = 1, .bypass = 2};
    facts.ruleset = Ruleset{};
    for (const auto& [name, priority] : {std::pair{"first", 0}, {"second", 10}}) {
      facts.ruleset->chains.push_back({.family = "inet",
                                       .table = "wall",
                                       .name = name,
                                       .hook = "input",
                                       .priority = priority,
                                       .drops_by_policy = false});
    }
  }
  [[nodiscard]] Finding judge() const { return judge_probe(facts, judged, stream, stations, trace, outcome); }
};

TEST(Verdict, an_echo_is_all_that_is_asked_for) {
  Probe probe;
  probe.outcome.echoed = true;
  EXPECT_EQ(probe.judge().severity, Severity::ok);
}

TEST(Verdict, the_chain_that_drops_is_the_one_behind_the_last_counter) {
  Probe probe;
  probe.outcome.connected = false;
  probe.trace.input = {1, 1, 1, 0};
  Finding finding = probe.judge();
  EXPECT_EQ(finding.id, "input-drop");
  EXPECT_NE(finding.summary.find("nft chain inet wall second"), std::string::npos) << finding.summary;
  EXPECT_EQ(finding.remedy.lines().front(), "nft insert rule inet wall second meta mark and 0x3 == 0x1 accept");
  probe.trace.input = {1, 1, 0, 0};
  finding = probe.judge();
  EXPECT_NE(finding.summary.find("nft chain inet wall first"), std::string::npos) << finding.summary;
}

TEST(Verdict, every_step_has_its_own_name) {
  Probe probe;
  probe.outcome.connected = false;
  probe.trace.postrouting = {2, 0};
  EXPECT_EQ(probe.judge().id, "answer-drop");
  probe.trace.output = {0, 0};
  EXPECT_EQ(probe.judge().id, "probe-listener");
  probe.trace.input = {0, 0, 0, 0};
  EXPECT_EQ(probe.judge().id, "probe-routing");
  EXPECT_EQ(probe.judge().summary.find("martian"), std::string::npos);
  probe.outcome.dropped_by_source_validation = true;
  EXPECT_NE(probe.judge().summary.find("martian"), std::string::npos);
  probe.trace.marked = 0;
  EXPECT_EQ(probe.judge().id, "probe-not-intercepted");
  probe.trace.prerouting = {1, 0, 0};
  EXPECT_EQ(probe.judge().id, "probe-prerouting");
  probe.trace.prerouting = {0, 0, 0};
  EXPECT_EQ(probe.judge().severity, Severity::skipped);
}

TEST(Verdict, a_connection_that_our_own_relay_does_not_accept_is_lost) {
  Probe probe;
  EXPECT_EQ(probe.judge().severity, Severity::ok) << "accepted: it may dial another target, or refuse";
  probe.outcome.waits = true;
  EXPECT_EQ(probe.judge().id, "probe-listener");
  EXPECT_EQ(probe.judge().severity, Severity::failure);
  EXPECT_EQ(probe.judge().remedy.lines().back(), "limpid status --name limpid");
  probe.judged.ownership.keeper = Keeper::permanent;
  EXPECT_EQ(probe.judge().severity, Severity::ok) << "another proxy's own affair";
}

TEST(Verdict, datagrams_for_a_relay_that_is_stopped_are_lost) {
  Probe probe;
  probe.stream.transport = Transport::udp;
  probe.judged.processes.emplace_back().pid = 812;
  EXPECT_EQ(probe.judge().severity, Severity::ok);
  probe.judged.processes.front().stopped = true;
  EXPECT_EQ(probe.judge().id, "probe-listener");
  EXPECT_EQ(probe.judge().remedy.lines().front(), "kill -CONT 812");
}

TEST(Verdict, a_host_that_does_not_answer_its_neighbours_is_sent_nothing) {
  Probe probe;
  probe.stream.family = Family::ipv6;
  probe.outcome.connected = false;
  probe.trace.prerouting = {0, 0, 0};
  probe.trace.solicited = 3;
  probe.facts.ruleset->chains.back().drops_by_policy = true;
  Finding finding = probe.judge();
  EXPECT_EQ(finding.id, "input-drop");
  EXPECT_EQ(finding.severity, Severity::warning);
  EXPECT_EQ(finding.remedy.lines().front(),
            "nft insert rule inet wall second icmpv6 type '{ nd-neighbor-solicit, nd-neighbor-advert }' accept");
  probe.trace.solicited_delivered = 3;
  EXPECT_EQ(probe.judge().severity, Severity::skipped);
}

TEST(Verdict, what_another_proxy_does_with_a_connection_is_its_own_affair) {
  Probe probe;
  probe.trace.dialled = 1;
  EXPECT_EQ(probe.judge().id, "probe-return");
  probe.judged.ownership.keeper = Keeper::permanent;
  EXPECT_EQ(probe.judge().severity, Severity::ok);
}

TEST(Verdict, streams_that_were_lost_alike_are_one_finding) {
  Probe probe;
  Findings findings = {probe.judge()};
  probe.stream.family = Family::ipv6;
  findings.push_back(probe.judge());
  findings = merge_alike(std::move(findings));
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings.front().subject, "TCP over IPv4, TCP over IPv6");
}

TEST(ProbeTable, counters_are_read_back_by_what_their_comments_say) {
  const Probe probe;
  const std::string text = render_probe_table({probe.stream}, probe.stations, probe.judged.ownership.mark);
  EXPECT_NE(text.find("comment \"t4 input 2\""), std::string::npos);
  Ruleset listing;
  listing.rules.push_back({.family = "inet",
                           .table = std::string(kProbeTable),
                           .chain = "input_2",
                           .handle = 1,
                           .comment = "t4 input 2",
                           .expression = nlohmann::json::parse(R"([{"counter": {"packets": 7, "bytes": 1}}])")});
  EXPECT_EQ(read_trace(listing, probe.stream, probe.stations).input, (std::vector<std::uint64_t>{0, 0, 7, 0}));
}

}  // namespace
}  // namespace limpid::doctor
