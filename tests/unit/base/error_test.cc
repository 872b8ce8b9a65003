// Errors: one line that says operation, object, cause and remedy, and the kind that becomes the exit status.
#include "limpid/error.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace limpid {
namespace {

TEST(Error, message_has_operation_object_cause_and_remedy) {
  const Error error = system_error(EACCES, "bind", "[::]:1088", "needs CAP_NET_BIND_SERVICE").error();
  EXPECT_EQ(error.message(), "bind [::]:1088: Permission denied (needs CAP_NET_BIND_SERVICE)");
}

TEST(Error, message_leaves_out_what_is_empty) {
  EXPECT_EQ(failure("read", "", "too short").error().message(), "read: too short");
  EXPECT_EQ(failure("", "eth0", "too short").error().message(), "eth0: too short");
  EXPECT_EQ(failure("", "", "too short").error().message(), "too short");
}

TEST(Error, missing_permission_is_of_the_kind_unsupported) {
  EXPECT_EQ(system_error(EPERM, "a", "b").error().kind, ErrorKind::unsupported);
  EXPECT_EQ(system_error(EACCES, "a", "b").error().kind, ErrorKind::unsupported);
  EXPECT_EQ(system_error(ENOENT, "a", "b").error().kind, ErrorKind::failure);
  EXPECT_EQ(system_error(ENOENT, "a", "b").error().code, ENOENT);
}

TEST(Error, each_maker_sets_its_kind_and_no_errno) {
  EXPECT_EQ(failure("a", "b", "c").error().kind, ErrorKind::failure);
  EXPECT_EQ(usage_error("a", "b", "c").error().kind, ErrorKind::usage);
  EXPECT_EQ(unsupported("a", "b", "c").error().kind, ErrorKind::unsupported);
  EXPECT_EQ(usage_error("a", "b", "c").error().code, 0);
}

TEST(Error, travels_in_a_result) {
  const Result<int> failed = failure("count", "sheep", "asleep");
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().object, "sheep");
  const Status fine{};
  EXPECT_TRUE(fine);
}

}  // namespace
}  // namespace limpid
