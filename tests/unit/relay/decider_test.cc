// What is decided where a flow says no name, with a hint of the client's; and that nothing passes by mistake when there is no memory.
#include "relay/decider.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "relay/clock.h"
#include "tests/unit/sniff/dns_writer.h"

namespace {

/// While it is set, whatever this thread wants to allocate fails.
thread_local bool no_memory = false;

}  // namespace

// The program's own: the only way to be without memory in a place of one's choice. Not inlined: a compiler that sees one of a pair alone takes it for a mistake.
// NOLINTBEGIN(cppcoreguidelines-no-malloc): this is what manages memory
[[gnu::noinline]] void* operator new(std::size_t size) {
  void* const memory = no_memory ? nullptr : std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t& /*kind*/) noexcept {
  return no_memory ? nullptr : std::malloc(size);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t /*size*/) noexcept {
  std::free(memory);
}
// NOLINTEND(cppcoreguidelines-no-malloc)

namespace limpid {
namespace {

std::shared_ptr<const CurrentRules> rules(std::initializer_list<std::string_view> texts) {
  std::vector<Rule> parsed;
  for (const std::string_view text : texts) parsed.push_back(parse_rule(text, {}).value());
  return std::make_shared<const CurrentRules>(std::move(parsed));
}

std::shared_ptr<const Policy> policy() {
  return std::make_shared<const Policy>(PolicyOptions{.fixed_target = std::nullopt, .listeners = {}});
}

const FlowKey kKey{.client = SocketAddress::parse("198.51.100.1:5000").value(),
                   .original_destination = SocketAddress::parse("192.0.2.1:25").value()};

class Hinted : public testing::Test {
 protected:
  Hinted() {
    DnsAnswer answer;
    EXPECT_TRUE(read_dns_answer(dns_test::answer(1, "mail.example", {1}), answer));
    hints_.learn(kKey.client.address, answer, monotonic_ms());
  }
  FlowVerdict decide(SniffOutcome outcome, const Sniffed& sniffed, const FlowKey& key = kKey) {
    Decider decider(policy(), rules({"domain(mail.example) -> reject", "otherwise -> direct(by-name: yes)"}), &hints_);
    return decider.decide(Transport::tcp, key, {}, outcome, sniffed, {});
  }
  NameHints hints_;
};

TEST_F(Hinted, a_flow_that_says_nothing_has_the_name_by_which_its_address_was_learnt) {
  for (const SniffOutcome outcome : {SniffOutcome::more, SniffOutcome::unknown}) {
    const FlowVerdict verdict = decide(outcome, {});
    EXPECT_EQ(verdict.action, FlowVerdict::Action::reject);
    EXPECT_EQ(verdict.ruling.rule, 1U);
    EXPECT_EQ(verdict.ruling.name(), "mail.example");
    EXPECT_TRUE(verdict.ruling.has_hint());
  }
  Sniffed ssh;
  ssh.protocol = SniffedProtocol::ssh;
  EXPECT_EQ(decide(SniffOutcome::found, ssh).action, FlowVerdict::Action::reject);
}

TEST_F(Hinted, its_own_name_wins_and_a_question_to_a_resolver_has_no_other) {
  Sniffed tls;
  tls.protocol = SniffedProtocol::tls;
  tls.ech = true;
  ASSERT_TRUE(tls.name.assign_domain("www.example"));
  const FlowVerdict verdict = decide(SniffOutcome::found, tls);
  EXPECT_EQ(verdict.ruling.rule, 2U);
  EXPECT_EQ(verdict.ruling.name(), "www.example");
  EXPECT_FALSE(verdict.ruling.has_hint());
  EXPECT_TRUE(verdict.by_name);
  Sniffed root;
  root.protocol = SniffedProtocol::dns;
  EXPECT_EQ(decide(SniffOutcome::found, root).ruling.name(), "");
}

TEST_F(Hinted, nobody_goes_by_a_hint_that_is_no_name_of_the_flow) {
  Decider decider(policy(), rules({"otherwise -> direct(by-name: yes)"}), &hints_);
  const FlowVerdict verdict = decider.decide(Transport::tcp, kKey, {}, SniffOutcome::unknown, {}, {});
  EXPECT_EQ(verdict.ruling.name(), "mail.example");
  EXPECT_FALSE(verdict.by_name);
  EXPECT_EQ(verdict.dial.target, kKey.original_destination);
}

TEST_F(Hinted, another_client_and_another_address_have_none) {
  FlowKey other = kKey;
  other.client.address = IpAddress::parse("198.51.100.2").value();
  EXPECT_EQ(decide(SniffOutcome::unknown, {}, other).ruling.rule, 2U);
  other = kKey;
  other.original_destination.address = IpAddress::parse("192.0.2.2").value();
  EXPECT_EQ(decide(SniffOutcome::unknown, {}, other).ruling.rule, 2U);
}

TEST(Decider, without_memory_a_name_leads_nowhere) {
  Decider decider(policy(), rules({"dst(192.0.2.7) -> reject", "cgroup(/other) -> drop", "otherwise -> direct"}));
  Learnt learnt;
  learnt.client.known.add(Fact::cgroup);
  learnt.client.cgroup = "/a/path/that/is/too/long/to/be/kept/without/an/allocation";
  const FlowVerdict by_name{.action = FlowVerdict::Action::relay,
                            .by_name = true,
                            .dial = {.target = kKey.original_destination},
                            .ruling = {.learnt = std::make_shared<const Learnt>(learnt), .rule = 3}};
  const ResolvedName resolved{.addresses = {IpAddress::parse("192.0.2.9").value()}};
  const FlowVerdict usual = decider.dial_resolved(Transport::tcp, kKey, by_name, resolved, {});
  EXPECT_EQ(usual.action, FlowVerdict::Action::relay);
  EXPECT_EQ(usual.dial.target.address, resolved.addresses.front());
  FlowVerdict verdict = by_name;
  no_memory = true;
  verdict = decider.dial_resolved(Transport::tcp, kKey, std::move(verdict), resolved, {});
  no_memory = false;
  EXPECT_EQ(verdict.action, FlowVerdict::Action::reject);
}

}  // namespace
}  // namespace limpid
