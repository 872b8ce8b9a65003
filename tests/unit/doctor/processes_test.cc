// What /proc says of a process, and what is made of it.
#include "doctor/processes.h"

#include <gtest/gtest.h>
#include <linux/capability.h>

#include <string>

#include "doctor/checks.h"

namespace limpid::doctor {
namespace {

constexpr std::string_view kStatus =
    "Name:\tlimpid\nUmask:\t0022\nUid:\t65534\t65534\t65534\t65534\nGroups:\t \nCapInh:\t0000000000000000\n"
    "CapPrm:\t0000000000002000\nCapEff:\t0000000000002000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
    "Seccomp_filters:\t1\n";

RunningProcess relay() {
  return *parse_status(812, kStatus);
}

RunningProcess keeper() {
  auto process = relay();
  process.name = "limpid-rules";
  process.pid = 813;
  process.user = 0;
  process.permitted = process.effective = std::uint64_t{1} << CAP_NET_ADMIN;
  process.filtered = false;
  return process;
}

Findings judge(std::vector<RunningProcess> processes) {
  Facts facts;
  Judged judged;
  judged.ownership.name = "web";
  judged.processes = std::move(processes);
  facts.judged.push_back(std::move(judged));
  return check_processes(facts);
}

TEST(Processes, a_status_is_read) {
  const auto process = relay();
  EXPECT_EQ(process.name, "limpid");
  EXPECT_EQ(process.user, 65534U);
  EXPECT_TRUE(process.holds(CAP_NET_RAW) && !process.holds(CAP_NET_ADMIN));
  EXPECT_EQ(process.bounding, 0U);
  EXPECT_TRUE(process.no_new_privs && process.filtered);
  EXPECT_FALSE(parse_status(1, ""));
  EXPECT_FALSE(parse_status(1, "Name:\tlimpid\nCapPrm:\tno number\n"));
}

TEST(Processes, one_that_has_ended_and_was_not_waited_for_is_gone) {
  std::string status(kStatus);
  status.insert(status.find("Umask"), "State:\tZ (zombie)\n");
  EXPECT_FALSE(parse_status(813, status));
  status.replace(status.find("Z (zombie)"), 10, "S (sleeping)");
  EXPECT_TRUE(parse_status(813, status));
}

TEST(Processes, one_that_is_stopped_is_a_failure) {
  std::string status(kStatus);
  status.insert(status.find("Umask"), "State:\tT (stopped)\n");
  const auto findings = judge({*parse_status(812, status), keeper()});
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].severity, Severity::failure);
  EXPECT_EQ(findings[0].remedy.lines().front(), "kill -CONT 812");
}

TEST(Processes, the_soft_limit_of_descriptors_is_read) {
  constexpr std::string_view kLimits =
      "Limit                     Soft Limit           Hard Limit           Units     \n"
      "Max processes             63432                63432                processes \n"
      "Max open files            1024                 524288               files     \n";
  EXPECT_EQ(parse_descriptor_limit(kLimits), 1024U);
  EXPECT_FALSE(parse_descriptor_limit("Max open files            unlimited            unlimited            files\n"));
  EXPECT_FALSE(parse_descriptor_limit("Max open files"));
  EXPECT_FALSE(parse_descriptor_limit(""));
}

TEST(Processes, capabilities_have_names) {
  EXPECT_EQ(name_capabilities(0), "none");
  EXPECT_EQ(name_capabilities(std::uint64_t{1} << CAP_NET_RAW | std::uint64_t{1} << CAP_BPF), "cap_net_raw, cap_bpf");
  EXPECT_EQ(name_capabilities((std::uint64_t{1} << 41U) - 1), "all");
}

TEST(Processes, little_is_well) {
  const auto findings = judge({relay(), keeper()});
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].severity, Severity::ok);
  EXPECT_NE(findings[0].summary.find("user 65534, capabilities cap_net_raw,"), std::string::npos);
}

TEST(Processes, more_than_relaying_takes_is_warned_of) {
  auto root = relay();
  root.permitted = (std::uint64_t{1} << 41U) - 1;
  root.permitted &= ~(std::uint64_t{1} << CAP_BPF);
  root.no_new_privs = false;
  const auto findings = judge({root, keeper()});
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].severity, Severity::warning);
  EXPECT_NE(findings[0].summary.find("cap_net_admin"), std::string::npos);
  EXPECT_NE(findings[0].summary.find("no_new_privs is off"), std::string::npos);
  EXPECT_EQ(findings[0].summary.find("cap_net_raw"), std::string::npos);
  EXPECT_FALSE(findings[0].remedy.advice.empty());
}

TEST(Processes, rules_that_nobody_keeps_are_a_failure) {
  const auto findings = judge({relay()});
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_EQ(findings[0].severity, Severity::failure);
  auto stopped = relay();
  stopped.stopped = true;
  EXPECT_EQ(judge({stopped}).size(), 2U) << "two failures are two findings";
  EXPECT_TRUE(judge({}).empty()) << "not known is nothing to say";
}

}  // namespace
}  // namespace limpid::doctor
