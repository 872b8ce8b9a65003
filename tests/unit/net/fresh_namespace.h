// A fixture whose every test has an empty network namespace of its own, with loopback up; as root or in a user
// namespace.
#pragma once

#include <gtest/gtest.h>
#include <linux/capability.h>

#include <optional>

#include "net/namespace.h"
#include "net/netlink.h"

namespace limpid {

class FreshNamespace : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_capability(CAP_SYS_ADMIN)) {
      if (auto rooted = become_root_in_user_namespace(); !rooted) GTEST_SKIP() << rooted.error().message();
    }
    if (auto entered = enter_new_network_namespace(); !entered) {
      if (entered.error().kind == ErrorKind::unsupported) GTEST_SKIP() << entered.error().message();
      FAIL() << entered.error().message();
    }
    auto opened = RouteSocket::open();
    ASSERT_TRUE(opened) << opened.error().message();
    socket_.emplace(*std::move(opened));
  }

  RouteSocket& socket() { return *socket_; }

 private:
  std::optional<RouteSocket> socket_;
};

}  // namespace limpid
