// The kernel's reasons for drops: their format file is read, and the tracepoint hears of a packet that this thread causes to be dropped.
#include "net/drop_reasons.h"

#include <algorithm>

#include "fresh_namespace.h"
#include "net/packet.h"
#include "net/probe.h"
#include "net/sysctl.h"

namespace limpid {
namespace {

constexpr std::string_view kFormat =
    "name: kfree_skb\nID: 2310\nformat:\n\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n"
    "\tfield:unsigned short protocol;\toffset:32;\tsize:2;\tsigned:0;\n"
    "\tfield:enum skb_drop_reason reason;\toffset:36;\tsize:4;\tsigned:0;\n\n"
    "print fmt: \"reason: %s\", __print_symbolic(REC->reason, { 2, \"NOT_SPECIFIED\" }, { 16, \"IP_RPFILTER\" })\n";

TEST(DropFormat, names_and_places) {
  const auto format = parse_drop_format(kFormat);
  ASSERT_TRUE(format);
  EXPECT_EQ(format->id, 2310U);
  EXPECT_EQ(format->protocol_offset, 32U);
  EXPECT_EQ(format->reason_offset, 36U);
  EXPECT_EQ(format->names.size(), 2U);
  EXPECT_EQ(format->names.at(16), "IP_RPFILTER");
}

TEST(DropFormat, older_kernels_have_no_reason) {
  EXPECT_FALSE(parse_drop_format("name: kfree_skb\nID: 1\n\tfield:unsigned short protocol;\toffset:32;\tsize:2;\n"));
  EXPECT_FALSE(parse_drop_format(""));
  for (std::size_t length = 0; length < kFormat.size(); ++length) (void)parse_drop_format(kFormat.substr(0, length));
}

using DropWatchTest = FreshNamespace;

TEST_F(DropWatchTest, a_packet_that_is_not_forwarded_has_that_reason) {
  if (!write_sysctl("net.ipv4.ip_forward", "0")) GTEST_SKIP() << "net.ipv4.ip_forward cannot be written here";
  auto watch = DropWatch::open();
  if (!watch) GTEST_SKIP() << watch.error().message();
  const auto from = SocketAddress::parse("192.0.2.2:1000").value();
  const auto to = SocketAddress::parse("198.51.100.2:80").value();
  const auto here = current_network_namespace();
  ASSERT_TRUE(here);
  ASSERT_TRUE(socket().add_veth("lan", "eth0", here->get()));
  ASSERT_TRUE(socket().set_link_up("lan"));
  ASSERT_TRUE(socket().set_link_up("eth0"));
  ASSERT_TRUE(socket().add_address("lan", IpAddress::parse("192.0.2.1").value(), 24));
  const auto sent = inject_packet("lan", build_syn(from, to, 1, {}));
  if (!sent && sent.error().kind == ErrorKind::unsupported) GTEST_SKIP() << sent.error().message();
  ASSERT_TRUE(sent) << sent.error().message();
  const auto reasons = watch->take(0x0800);
  EXPECT_NE(std::ranges::find(reasons, "IP_INADDRERRORS"), reasons.end()) << ::testing::PrintToString(reasons);
  EXPECT_TRUE(watch->take(0x0800).empty()) << "each is told once";
}

}  // namespace
}  // namespace limpid
