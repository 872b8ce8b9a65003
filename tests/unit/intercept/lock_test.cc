// Whom the lock of planning excludes: others that may change rules, and nobody who merely took its name.
#include <linux/capability.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/confinement.h"
#include "intercept/install.h"
#include "tests/kernel/testbed.h"

namespace limpid {
namespace {

using testbed::Namespace;

constexpr uid_t kStranger = 65534;

/// The lock, as anybody may take it.
UniqueFd take_planning() {
  UniqueFd lock(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  constexpr std::string_view kName = "limpid/planning";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, kName.data(), kName.size());
  const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + kName.size());
  if (::bind(lock.get(), reinterpret_cast<const sockaddr*>(&address), length) != 0 || ::listen(lock.get(), 8) != 0)
    return {};
  return lock;
}

/// A process that takes the lock by way of `take`, and holds it: for ever, or until somebody asks who has it.
class Holder {
 public:
  enum class Lets : bool { nobody, who_asks };

  Holder(const Namespace& where, UniqueFd (*take)(), Lets lets = Lets::nobody) {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    const UniqueFd ours(ends[0]);
    UniqueFd theirs(ends[1]);
    pid_ = where.run([&] {
      const pid_t pid = ::fork();
      if (pid != 0) return pid;
      const UniqueFd lock = take();
      if (!lock.valid()) _exit(1);
      std::ignore = ::write(theirs.get(), "y", 1);
      if (lets == Lets::nobody) ::pause();
      testbed::wait_for(lock.get(), POLLIN, testbed::kPatience);
      _exit(0);
    });
    theirs.reset();
    char said = 0;
    holds_ = ::read(ours.get(), &said, 1) == 1;
  }
  Holder(const Holder&) = delete;
  Holder& operator=(const Holder&) = delete;
  Holder(Holder&&) = delete;
  Holder& operator=(Holder&&) = delete;
  ~Holder() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  [[nodiscard]] bool holds() const { return holds_; }

 private:
  pid_t pid_ = -1;
  bool holds_ = false;
};

class PlanningLock : public testbed::NamespaceTest {
 protected:
  void SetUp() override {
    NamespaceTest::SetUp();
    if (!IsSkipped() && ::geteuid() != 0) GTEST_SKIP() << "only root can be several users";
  }

  void expect_not_excluded(UniqueFd (*take)()) {
    const Holder holder(where_, take);
    if (!holder.holds()) GTEST_SKIP() << "this process may not be started so here";
    const auto lock = where_.run([] { return lock_planning(); });
    ASSERT_TRUE(lock) << lock.error().message();
    EXPECT_FALSE(lock->valid()) << "the name is taken; nothing is excluded by it";
  }

  Namespace where_;
};

TEST_F(PlanningLock, a_user_without_the_right_excludes_nobody) {
  expect_not_excluded([] { return ::setresuid(kStranger, kStranger, kStranger) == 0 ? take_planning() : UniqueFd(); });
}

/// As one that has executed su(1), which asks for a password meanwhile.
TEST_F(PlanningLock, a_user_who_became_root_afterwards_excludes_nobody) {
  expect_not_excluded([] {
    if (::seteuid(kStranger) != 0) return UniqueFd();
    UniqueFd lock = take_planning();
    return ::seteuid(0) == 0 ? std::move(lock) : UniqueFd();
  });
}

TEST_F(PlanningLock, a_user_who_has_every_right_in_a_namespace_of_its_own_excludes_nobody) {
  expect_not_excluded([] {
    if (::setresuid(kStranger, kStranger, kStranger) != 0) return UniqueFd();
    return ::unshare(CLONE_NEWUSER) == 0 ? take_planning() : UniqueFd();
  });
}

TEST_F(PlanningLock, a_user_with_the_right_is_waited_for) {
  const Holder holder(
      where_,
      [] {
        constexpr auto kKept = std::to_array<unsigned>({CAP_NET_ADMIN});
        return give_up_privileges({.user = kStranger, .group = kStranger}, kKept) ? take_planning() : UniqueFd();
      },
      Holder::Lets::who_asks);
  ASSERT_TRUE(holder.holds());
  const auto lock = where_.run([] { return lock_planning(); });
  ASSERT_TRUE(lock) << lock.error().message();
  EXPECT_TRUE(lock->valid()) << "it was let go meanwhile";
}

}  // namespace
}  // namespace limpid
