// What may stand in a status, and which addresses a supervisor may have.
#include "service/notify_socket.h"

#include <gtest/gtest.h>

#include <string>

namespace limpid {
namespace {

TEST(NotifySocket, a_status_is_one_short_line) {
  EXPECT_EQ(one_status_line("a\nREADY=1\r\tb\x7f"), "a READY=1  b ");
  EXPECT_EQ(one_status_line(std::string(300, 'x')).size(), 256U);
  // Two bytes each, from an odd place on: none is cut in half.
  std::string text = "x";
  for (int i = 0; i < 200; ++i) text += "ü";
  const auto cut = one_status_line(text);
  EXPECT_EQ(cut.size(), 255U);
  EXPECT_EQ(cut.substr(253), "ü");
}

TEST(NotifySocket, addresses_are_paths_or_abstract_names) {
  EXPECT_FALSE(NotifySocket::open("")->present());
  EXPECT_TRUE(NotifySocket::open("/run/systemd/notify")->present());
  EXPECT_TRUE(NotifySocket::open("@name")->present());
  for (const std::string wrong : {"notify", "vsock:2:1", "/", "@"}) EXPECT_FALSE(NotifySocket::open(wrong)) << wrong;
  EXPECT_TRUE(NotifySocket::open("/" + std::string(106, 'x')));
  EXPECT_FALSE(NotifySocket::open("/" + std::string(107, 'x')));
}

}  // namespace
}  // namespace limpid
