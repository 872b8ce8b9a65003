// Who asks for names, who is answered, what no name leads to, and that nobody takes more than his part. The test is at the process's end of the channel.
#include "relay/name_lookups.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <future>
#include <optional>
#include <string>
#include <tuple>

#include "relay/clock.h"

namespace limpid {
namespace {

constexpr int kLongMs = 10'000;
constexpr int kShortMs = 50;

IpAddress address(const std::string& text) {
  return IpAddress::parse(text).value();
}

bool is_readable(int fd, int timeout_ms) {
  pollfd wanted{.fd = fd, .events = POLLIN, .revents = 0};
  return poll(&wanted, 1, timeout_ms) == 1;
}

class NameLookupsTest : public testing::Test {
 protected:
  NameLookupsTest() {
    std::array<int, 2> ends{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
    process_ = UniqueFd(ends[0]);
    lookups_.emplace(NameLookups::Options{
        .channel = UniqueFd(ends[1]),
        .own = []() -> Result<std::vector<IpAddress>> { return std::vector{address("192.0.2.1")}; },
        .changes = std::nullopt,
        .on_end = [this] { ended_.set_value(); }});
  }

  NameLookups::Outcome ask(const std::string& name, const std::string& client = "192.0.2.2",
                           Family family = Family::ipv4, std::uint64_t until_ms = UINT64_MAX) {
    return lookups_->ask(name, family, address(client), until_ms, mailbox_, {.index = ++asked_, .generation = 1})
        .outcome;
  }

  /// The next question; empty: there is none.
  std::optional<NameQuestion> question(int timeout_ms = kLongMs) {
    NameQuestion packet;
    if (!is_readable(process_.get(), timeout_ms)) return std::nullopt;
    EXPECT_EQ(recv(process_.get(), &packet, sizeof packet, 0), static_cast<ssize_t>(sizeof packet));
    return packet;
  }

  void answer(const NameQuestion& question, const std::vector<std::string>& addresses) {
    NameAnswer packet{.number = question.number};
    for (const auto& each : addresses) packet.addresses.at(packet.count++) = address(each).bytes();
    EXPECT_EQ(send(process_.get(), &packet, sizeof packet, 0), static_cast<ssize_t>(sizeof packet));
  }

  /// What has come, once there is something.
  std::vector<NameNews> news() {
    EXPECT_TRUE(is_readable(wake_.get(), kLongMs));
    eventfd_t ignored = 0;
    eventfd_read(wake_.get(), &ignored);
    std::vector<NameNews> found;
    mailbox_->take(found);
    return found;
  }

  UniqueFd wake_{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::shared_ptr<NameMailbox> mailbox_ = std::make_shared<NameMailbox>(wake_.get());
  UniqueFd process_;
  std::promise<void> ended_;
  std::uint32_t asked_ = 0;
  std::optional<NameLookups> lookups_;
};

TEST_F(NameLookupsTest, one_question_for_all_who_ask_and_none_for_those_who_come_later) {
  EXPECT_EQ(ask("www.example"), NameLookups::Outcome::waiting);
  EXPECT_EQ(ask("www.example", "192.0.2.3"), NameLookups::Outcome::waiting);
  const auto first = question();
  ASSERT_TRUE(first);
  EXPECT_STREQ(first->host.data(), "www.example");
  EXPECT_FALSE(question(kShortMs));
  answer(*first, {"198.51.100.1", "198.51.100.2"});
  std::vector<NameNews> told = news();
  while (told.size() < 2) {
    for (auto& more : news()) told.push_back(more);
  }
  EXPECT_EQ(told[0].asker.index, 1U);
  EXPECT_EQ(told[1].asker.index, 2U);
  EXPECT_EQ(told[0].resolved->addresses, (std::vector{address("198.51.100.1"), address("198.51.100.2")}));
  const auto later = lookups_->ask("www.example", Family::ipv4, address("192.0.2.4"), UINT64_MAX, mailbox_, {});
  EXPECT_EQ(later.outcome, NameLookups::Outcome::known);
  EXPECT_EQ(later.resolved->addresses.size(), 2U);
  EXPECT_EQ(ask("www.example", "192.0.2.2", Family::ipv6), NameLookups::Outcome::waiting) << "the other family";
  lookups_->restrict_to({}, {});
  EXPECT_EQ(ask("www.example"), NameLookups::Outcome::waiting) << "what is in scope has changed";
}

TEST_F(NameLookupsTest, no_name_leads_to_ourselves_or_past_the_scope) {
  const std::vector<Prefix> to{Prefix::parse("192.0.2.0/24").value(), Prefix::parse("2001:db8::/32").value()};
  const std::vector<Prefix> excluded{Prefix::parse("192.0.2.128/25").value()};
  lookups_->restrict_to(to, excluded);
  std::ignore = ask("some.example");
  answer(question().value(), {"192.0.2.1", "192.0.2.2", "192.0.2.200", "198.51.100.1"});
  auto told = news();
  EXPECT_EQ(told.at(0).resolved->addresses, std::vector{address("192.0.2.2")});
  EXPECT_TRUE(told.at(0).resolved->forbidden);
  std::ignore = ask("mapped.example", "2001:db8::2", Family::ipv6);
  answer(question().value(), {"::ffff:192.0.2.2", "2001:db8::1"});
  told = news();
  EXPECT_EQ(told.at(0).resolved->addresses, std::vector{address("2001:db8::1")});
  std::ignore = ask("none.example");
  answer(question().value(), {});
  told = news();
  EXPECT_TRUE(told.at(0).resolved->addresses.empty());
  EXPECT_FALSE(told.at(0).resolved->forbidden);
}

TEST_F(NameLookupsTest, one_client_has_its_part_of_the_process_and_no_more) {
  for (unsigned i = 0; i < NameLookups::kMostWaitingOfClient; ++i) {
    // Another address of the same /64 is the same client.
    EXPECT_EQ(ask(std::to_string(i) + ".slow.example", "2001:db8::" + std::to_string(i), Family::ipv6),
              NameLookups::Outcome::waiting);
  }
  EXPECT_EQ(ask("more.example", "2001:db8::abcd", Family::ipv6), NameLookups::Outcome::refused);
  EXPECT_EQ(ask("other.example", "2001:db8:0:1::1", Family::ipv6), NameLookups::Outcome::waiting);
  std::vector<NameQuestion> sent;
  while (const auto next = question(sent.size() <= NameLookups::kAtOnceOfClient ? kLongMs : kShortMs)) {
    sent.push_back(*next);
  }
  ASSERT_EQ(sent.size(), NameLookups::kAtOnceOfClient + 1) << "its part, and the other client's";
  EXPECT_STREQ(sent.back().host.data(), "other.example");
  EXPECT_STREQ(sent.front().host.data(), "0.slow.example");
  answer(sent.front(), {"2001:db8::1"});
  const auto next = question();
  ASSERT_TRUE(next);
  EXPECT_STREQ(next->host.data(), "4.slow.example") << "in the order in which they came";
}

TEST_F(NameLookupsTest, all_of_ipv6_is_not_ipv4) {
  const std::vector<Prefix> to{Prefix::everything(Family::ipv6)};
  lookups_->restrict_to(to, {});
  std::ignore = ask("four.example");
  answer(question().value(), {"192.0.2.2"});
  EXPECT_TRUE(news().at(0).resolved->addresses.empty());
  std::ignore = ask("six.example", "2001:db8::2", Family::ipv6);
  answer(question().value(), {"2001:db8::3"});
  EXPECT_EQ(news().at(0).resolved->addresses, std::vector{address("2001:db8::3")});
  lookups_->restrict_to({}, to);
  std::ignore = ask("four.example");
  answer(question().value(), {"192.0.2.2"});
  EXPECT_EQ(news().at(0).resolved->addresses, std::vector{address("192.0.2.2")}) << "nor is it excluded";
}

TEST_F(NameLookupsTest, silent_names_of_some_do_not_hold_up_others) {
  // Eight clients fill everything with names that nobody answers, and go away after a second.
  const std::uint64_t until_ms = monotonic_ms() + 1000;
  std::vector<NameQuestion> under_way;
  for (unsigned client = 0; client < 8; ++client) {
    for (unsigned i = 0; i < NameLookups::kMostWaitingOfClient; ++i) {
      EXPECT_EQ(ask(std::to_string(client) + "-" + std::to_string(i) + ".silent.example",
                    "192.0.2." + std::to_string(100 + client), Family::ipv4, until_ms),
                NameLookups::Outcome::waiting);
      while (const auto sent = question(0)) under_way.push_back(*sent);
    }
  }
  EXPECT_EQ(under_way.size(), kNamesAtOnce);
  EXPECT_EQ(ask("honest.example"), NameLookups::Outcome::refused);
  while (monotonic_ms() < until_ms) EXPECT_FALSE(question(kShortMs));
  EXPECT_EQ(ask("honest.example"), NameLookups::Outcome::waiting) << "there is room, because nobody waits for those";
  answer(under_way.front(), {});
  const auto next = question();
  ASSERT_TRUE(next);
  EXPECT_STREQ(next->host.data(), "honest.example");
}

TEST_F(NameLookupsTest, whoever_has_least_under_way_is_next) {
  for (unsigned client = 0; client < 4; ++client) {
    for (unsigned i = 0; i < 8; ++i) {
      std::ignore = ask(std::to_string(client) + "-" + std::to_string(i) + ".slow.example",
                        "192.0.2." + std::to_string(100 + client));
    }
  }
  std::vector<NameQuestion> under_way;
  while (const auto sent = question(under_way.size() < kNamesAtOnce ? kLongMs : 0)) under_way.push_back(*sent);
  ASSERT_EQ(under_way.size(), kNamesAtOnce);
  std::ignore = ask("late.example", "192.0.2.2");
  answer(under_way.front(), {});
  EXPECT_STREQ(question().value().host.data(), "late.example") << "before older ones of those who have their part";
}

TEST_F(NameLookupsTest, a_question_lives_as_long_as_the_last_of_those_who_wait) {
  for (unsigned i = 0; i < NameLookups::kAtOnceOfClient; ++i) std::ignore = ask(std::to_string(i) + ".slow.example");
  EXPECT_EQ(ask("short.example", "192.0.2.2", Family::ipv4, 1), NameLookups::Outcome::waiting);
  EXPECT_EQ(ask("shared.example", "192.0.2.2", Family::ipv4, 1), NameLookups::Outcome::waiting);
  std::vector<NameQuestion> under_way;
  while (const auto sent = question(under_way.size() < NameLookups::kAtOnceOfClient ? kLongMs : 0))
    under_way.push_back(*sent);
  ASSERT_EQ(under_way.size(), NameLookups::kAtOnceOfClient);
  EXPECT_EQ(ask("kept.example"), NameLookups::Outcome::waiting);
  EXPECT_EQ(ask("kept.example", "192.0.2.2", Family::ipv4, 1), NameLookups::Outcome::waiting);
  answer(under_way.front(), {});
  EXPECT_STREQ(question().value().host.data(), "kept.example");
}

TEST_F(NameLookupsTest, all_who_wait_hear_when_the_process_is_gone) {
  std::ignore = ask("www.example");
  process_.reset();
  const auto told = news();
  EXPECT_TRUE(told.at(0).resolved->addresses.empty());
  EXPECT_EQ(ended_.get_future().wait_for(std::chrono::milliseconds(kLongMs)), std::future_status::ready);
  const auto later = lookups_->ask("other.example", Family::ipv4, address("192.0.2.2"), UINT64_MAX, mailbox_, {});
  EXPECT_EQ(later.outcome, NameLookups::Outcome::known);
  EXPECT_TRUE(later.resolved->addresses.empty());
}

TEST_F(NameLookupsTest, a_mailbox_that_is_closed_takes_nothing) {
  std::ignore = ask("www.example");
  const auto first = question();
  mailbox_->close();
  answer(*first, {"198.51.100.1"});
  lookups_.reset();  // its thread has ended
  EXPECT_FALSE(is_readable(wake_.get(), 0));
}

}  // namespace
}  // namespace limpid
