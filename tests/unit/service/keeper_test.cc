// What the process that keeps the rules does with them when the one that gives its orders is gone in the middle of an upgrade.
#include "service/keeper.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "intercept/install.h"
#include "intercept/survey.h"
#include "tests/kernel/testbed.h"

namespace limpid {
namespace {

using testbed::must;
using testbed::Namespace;

class KeeperAlone : public testbed::NamespaceTest {
 protected:
  void SetUp() override {
    NamespaceTest::SetUp();
    if (IsSkipped()) return;
    InterceptionOptions wanted;
    wanted.name = name_;
    wanted.scope.tcp = *PortSet::parse("80");
    wanted.listener = Port{1080};
    wanted.fail = FailMode::open;
    where_.run([&] {
      plan_ =
          make_plan(must(prepare_inputs(must(survey_kernel(), "survey"), wanted, Keeper::process, false), "prepare"));
      if (auto checked = check_plan(plan_); !checked) why_not_ = checked.error().message();
    });
    if (!why_not_.empty()) GTEST_SKIP() << why_not_;
  }

  /// A keeper that would start `program` as a successor.
  std::unique_ptr<RulesKeeper> start(std::string program, bool succeeds) {
    return where_.run([&] {
      return must(RulesKeeper::start({.options = options_,
                                      .plan = plan_,
                                      .log = log_,
                                      .control_path = "",
                                      .rules_lock = must(lock_rules(name_), "lock"),
                                      .program = {.path = program, .arguments = {program}},
                                      .variables = {},
                                      .succeeds = succeeds}),
                  "start");
    });
  }

  [[nodiscard]] bool rules_are_there() const {
    return where_.command("nftables", {"nft", "list", "tables"}).find(name_) != std::string::npos;
  }

  const std::string name_ = "keepertest";
  Namespace where_;
  Plan plan_;
  std::string why_not_;
  ServiceOptions options_;
  Logger log_{Logger::Options{.level = LogLevel::error}};
};

TEST_F(KeeperAlone, rules_are_not_left_to_a_successor_that_has_not_taken_over) {
  auto keeper = start("/bin/false", /*succeeds=*/false);
  must(keeper->install(), "install");
  ASSERT_TRUE(rules_are_there());
  const auto channel = must(DescriptorChannel::open(), "open");
  must(keeper->start_successor(channel.second.get()), "start the successor");
  keeper->leave();
  keeper.reset();  // as if the service had died: the keeper must not take its word for it
  EXPECT_FALSE(rules_are_there());
}

TEST_F(KeeperAlone, rules_of_a_successor_that_has_ended_in_order_are_its_own_affair) {
  auto keeper = start("/bin/true", /*succeeds=*/false);
  must(keeper->install(), "install");
  const auto channel = must(DescriptorChannel::open(), "open");
  must(keeper->start_successor(channel.second.get()), "start the successor");
  keeper->leave();
  keeper.reset();
  EXPECT_TRUE(rules_are_there());
}

TEST_F(KeeperAlone, a_successor_that_dies_before_its_first_order_leaves_no_rules) {
  where_.run([&] { must(install_plan(plan_), "the predecessor's"); });
  const auto lock = where_.run([&] { return must(lock_instance(name_), "take over"); });
  start("/bin/false", /*succeeds=*/true).reset();
  EXPECT_FALSE(rules_are_there());
}

TEST_F(KeeperAlone, a_successor_that_does_not_begin_leaves_the_rules_to_its_predecessor) {
  where_.run([&] { must(install_plan(plan_), "the predecessor's"); });
  auto lock = where_.run([&] { return must(lock_instance(name_), "lock"); });
  // The predecessor is another process than this one, which plays the successor.
  const pid_t predecessor = fork();
  if (predecessor == 0) {
    std::ignore = renew_instance_lock(lock);
    for (;;) ::pause();
  }
  const auto held = [&] { return where_.run([&] { return process_of_instance(name_); }); };
  while (held() != predecessor) ::poll(nullptr, 0, 1);
  start("/bin/false", /*succeeds=*/true).reset();
  EXPECT_TRUE(rules_are_there());
  ::kill(predecessor, SIGKILL);
  ::waitpid(predecessor, nullptr, 0);
}

}  // namespace
}  // namespace limpid
