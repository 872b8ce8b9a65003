// What is said of rights that are missing: only of those that rules depend on, and of none for which there is another way.
#include "service/client_rights.h"

#include <gtest/gtest.h>

#include <initializer_list>

#include "base/confinement.h"
#include "base/file_text.h"
#include "base/forked.h"

namespace limpid {
namespace {

FactSet set_of(std::initializer_list<Fact> facts) {
  FactSet set;
  for (const Fact fact : facts) set.add(fact);
  return set;
}

TEST(ClientRights, nothing_is_missing_where_no_rule_asks) {
  EXPECT_TRUE(missing_rights(set_of({Fact::first_bytes, Fact::arrival, Fact::hardware, Fact::user}),
                             {.processes = false, .cgroups = false})
                  .empty());
  EXPECT_TRUE(missing_rights(set_of({Fact::process, Fact::cgroup}), {}).empty());
}

TEST(ClientRights, each_condition_that_is_never_met_is_named) {
  const auto both = missing_rights(set_of({Fact::process, Fact::cgroup}), {.processes = false, .cgroups = false});
  ASSERT_EQ(both.size(), 2U);
  EXPECT_NE(both[0].what.find("process, gid"), std::string::npos);
  EXPECT_NE(both[0].needs.find("CAP_SYS_PTRACE"), std::string::npos);
  EXPECT_NE(both[1].what.find("cgroup"), std::string::npos);
  EXPECT_NE(both[1].needs.find("open_by_handle_at"), std::string::npos);
}

TEST(ClientRights, a_cgroup_can_be_learnt_of_the_process_too) {
  EXPECT_TRUE(missing_rights(set_of({Fact::cgroup}), {.processes = true, .cgroups = false}).empty());
  EXPECT_TRUE(missing_rights(set_of({Fact::cgroup}), {.processes = false, .cgroups = true}).empty());
}

TEST(ClientRights, without_capabilities_neither_may_be_looked_at) {
  const auto seen = run_forked([]() -> Result<std::string> {
    if (auto given = give_up_capabilities(); !given) return std::unexpected(given.error());
    const ClientRights rights = find_client_rights();
    return std::string(rights.processes ? "processes" : "") + (rights.cgroups ? "cgroups" : "");
  });
  ASSERT_TRUE(seen) << seen.error().message();
  // Where no cgroup v2 is mounted, there is nothing that could be forbidden.
  const bool mounted = read_text("/proc/self/mountinfo").find(" - cgroup2 ") != std::string::npos;
  EXPECT_EQ(*seen, mounted ? "" : "cgroups");
}

}  // namespace
}  // namespace limpid
