// Assumption: abstract Unix sockets belong to a network namespace, and their names are free again as soon as the last
// descriptor is closed. The locks of install.h are built on it.
#include "intercept/install.h"
#include "tests/kernel/testbed.h"

namespace limpid::testbed {
namespace {

using AbstractSocket = NamespaceTest;

TEST_F(AbstractSocket, one_name_can_be_held_in_each_namespace) {
  const Namespace one;
  const Namespace other;
  const auto lock = [](const Namespace& where) { return where.run([] { return lock_instance("limpid"); }); };
  auto first = lock(one);
  ASSERT_TRUE(first);
  EXPECT_TRUE(lock(other));
  const auto second = lock(one);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message().find("pid " + std::to_string(::getpid())), std::string::npos)
      << why(second.error());
  first->reset();
  EXPECT_TRUE(lock(one));
}

TEST_F(AbstractSocket, who_waits_for_a_lock_is_woken_by_its_end) {
  const Namespace where;
  auto held = where.run([] { return lock_planning(); });
  ASSERT_TRUE(held);
  Result<UniqueFd> waited = UniqueFd();
  const auto begin = std::chrono::steady_clock::now();
  std::thread waiter([&] { waited = where.run([] { return lock_planning(); }); });
  std::thread([&] {
    pollfd nothing{.fd = -1, .events = 0, .revents = 0};
    ::poll(&nothing, 1, 100);  // long enough for the waiter to wait, as a rule; right in either order
    held->reset();
  }).join();
  waiter.join();
  ASSERT_TRUE(waited) << why(waited.error());
  EXPECT_TRUE(waited->valid());
  EXPECT_LT(std::chrono::steady_clock::now() - begin, kPatience);
}

}  // namespace
}  // namespace limpid::testbed
