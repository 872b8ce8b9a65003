// UniqueFd: closes exactly once, whatever happens to it.
#include "limpid/unique_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <type_traits>

namespace limpid {
namespace {

bool is_open(int fd) {
  return fcntl(fd, F_GETFD) >= 0;
}
UniqueFd some_fd() {
  return UniqueFd(open("/dev/null", O_RDONLY | O_CLOEXEC));
}

static_assert(!std::is_copy_constructible_v<UniqueFd> && !std::is_copy_assignable_v<UniqueFd>);
static_assert(!std::is_convertible_v<UniqueFd, int> && !std::is_convertible_v<int, UniqueFd>);
static_assert(!std::is_constructible_v<bool, UniqueFd>);
static_assert(std::is_nothrow_move_constructible_v<UniqueFd> && std::is_nothrow_move_assignable_v<UniqueFd>);

TEST(UniqueFd, closes_at_the_end_of_its_scope) {
  int fd = -1;
  {
    const auto owner = some_fd();
    fd = owner.get();
    EXPECT_TRUE(owner.valid());
    EXPECT_TRUE(is_open(fd));
  }
  EXPECT_FALSE(is_open(fd));
}

TEST(UniqueFd, default_owns_nothing) {
  const UniqueFd none;
  EXPECT_FALSE(none.valid());
  EXPECT_LT(none.get(), 0);
}

TEST(UniqueFd, moving_hands_over_the_descriptor) {
  auto first = some_fd();
  const int fd = first.get();
  const UniqueFd second = std::move(first);
  EXPECT_FALSE(first.valid());  // NOLINT(bugprone-use-after-move): that is what is tested
  EXPECT_EQ(second.get(), fd);
  EXPECT_TRUE(is_open(fd));
}

TEST(UniqueFd, assignment_closes_what_was_owned_before) {
  auto first = some_fd();
  auto second = some_fd();
  const int closed = first.get();
  const int kept = second.get();
  first = std::move(second);
  EXPECT_FALSE(is_open(closed));
  EXPECT_TRUE(is_open(kept));
  EXPECT_EQ(first.get(), kept);
}

TEST(UniqueFd, assignment_to_itself_keeps_it_open) {
  auto owner = some_fd();
  auto& alias = owner;
  owner = std::move(alias);
  EXPECT_TRUE(owner.valid());
  EXPECT_TRUE(is_open(owner.get()));
}

TEST(UniqueFd, a_released_descriptor_stays_open) {
  int fd = -1;
  {
    auto owner = some_fd();
    fd = owner.release();
    EXPECT_FALSE(owner.valid());
  }
  EXPECT_TRUE(is_open(fd));
  close(fd);
}

TEST(UniqueFd, reset_closes_now_and_only_once) {
  auto owner = some_fd();
  const int fd = owner.get();
  owner.reset();
  EXPECT_FALSE(is_open(fd));
  EXPECT_FALSE(owner.valid());
  // Somebody else gets the same number: a second reset must leave it alone.
  const auto other = some_fd();
  ASSERT_EQ(other.get(), fd);
  owner.reset();
  EXPECT_TRUE(is_open(fd));
}

}  // namespace
}  // namespace limpid
