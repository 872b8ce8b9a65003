// run_forked(): what comes back of a child's work, and that a child which dies brings nothing back.
#include "base/forked.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <string>

namespace limpid {
namespace {

TEST(Forked, brings_back_the_text) {
  const std::string long_text(1'000'000, 'x');
  const auto back = run_forked([&]() -> Result<std::string> { return long_text; });
  ASSERT_TRUE(back);
  EXPECT_EQ(*back, long_text);
}

TEST(Forked, brings_back_an_error_with_its_kind) {
  const auto back = run_forked([]() -> Result<std::string> { return system_error(EPERM, "open", "the door"); });
  ASSERT_FALSE(back);
  EXPECT_EQ(back.error().kind, system_error(EPERM, "open", "the door").error().kind);
}

TEST(Forked, a_child_that_dies_has_no_answer) {
  EXPECT_FALSE(run_forked([]() -> Result<std::string> {
    ::raise(SIGKILL);
    return "never";
  }));
}

}  // namespace
}  // namespace limpid
