// Programs as nft's text, and the paths of cgroups that may become part of it.
#include "intercept/local_traffic.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace limpid {
namespace {

TEST(ValidateCgroup, accepts_what_systemd_makes) {
  for (const std::string_view path :
       {"user.slice", "user.slice/user-1000.slice/user@1000.service/app.slice", "a",
        R"(system.slice/system-getty.slice/getty@tty1.service)", R"(x/dev-disk-by\x2duuid)", "a..b/..c"}) {
    EXPECT_TRUE(validate_cgroup(path)) << path;
  }
}

TEST(ValidateCgroup, refuses_what_could_leave_its_quotes_or_its_root) {
  for (const std::string_view path :
       {"", "/", ".", "..", "../a", "a/..", "a/../b", "/a", "a/", "a//b", "a\"b", "a b", "a\nb", "a\x7f", "\xc3\xa4"}) {
    const auto valid = validate_cgroup(path);
    ASSERT_FALSE(valid) << path;
    EXPECT_EQ(valid.error().kind, ErrorKind::usage);
  }
  EXPECT_FALSE(validate_cgroup(std::string(201, 'a')));
}

TEST(ProgramMatches, has_one_for_all_single_numbers_and_one_for_each_range) {
  EXPECT_TRUE(program_matches({}).empty());
  const Programs programs{.users = {{5, 5}, {10, 19}, {7, 7}}, .groups = {{3, 3}}, .cgroups = {"a", "a/b/c"}};
  EXPECT_EQ(program_matches(programs),
            (std::vector<std::string>{"meta skuid { 5, 7 }", "meta skuid 10-19", "meta skgid { 3 }",
                                      "socket cgroupv2 level 1 \"a\"", "socket cgroupv2 level 3 \"a/b/c\""}));
}

TEST(RequireCgroups, names_the_missing_one) {
  LocalScope scope;
  EXPECT_TRUE(require_cgroups(scope));
  scope.never.cgroups = {"no-such.slice"};
  const auto required = require_cgroups(scope);
  ASSERT_FALSE(required);
  EXPECT_NE(required.error().message().find("no-such.slice"), std::string::npos);
}

}  // namespace
}  // namespace limpid
