// What is written is read again, block by block, the slow way. tests/netns/test_capture.py has tcpdump read it.
#include "capture/pcapng.h"

#include <gtest/gtest.h>
#include <linux/if_arp.h>
#include <linux/if_packet.h>

#include <cstring>
#include <map>

namespace limpid {
namespace {

std::uint32_t number(std::span<const std::byte> bytes, std::size_t at, std::size_t size) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.subspan(at, size).data(), size);
  return value;
}

struct Block {
  std::uint32_t type = 0;
  std::span<const std::byte> body;

  /// By code; the last one of each. `at`: where they begin.
  [[nodiscard]] std::map<unsigned, std::string> options(std::size_t at) const {
    std::map<unsigned, std::string> found;
    for (;;) {
      const unsigned code = number(body, at, 2);
      const std::size_t length = number(body, at + 2, 2);
      if (code == 0) {
        EXPECT_EQ(at + 4, body.size()) << "the end of options is the block's";
        return found;
      }
      const auto value = body.subspan(at + 4, length);
      found[code] = {reinterpret_cast<const char*>(value.data()), value.size()};
      at += 4 + (length + 3) / 4 * 4;
    }
  }
};

std::vector<Block> read(std::span<const std::byte> bytes) {
  std::vector<Block> blocks;
  while (!bytes.empty()) {
    const std::size_t length = number(bytes, 4, 4);
    EXPECT_EQ(length % 4, 0U);
    EXPECT_EQ(number(bytes, length - 4, 4), length) << "at both ends of a block";
    blocks.push_back({.type = number(bytes, 0, 4), .body = bytes.subspan(8, length - 12)});
    bytes = bytes.subspan(length);
  }
  return blocks;
}

TEST(Pcapng, a_file_says_whose_packets_it_has) {
  PcapngWriter writer(1500, "limpid 1", "flow t0-1-1");
  EXPECT_EQ(writer.add_interface("lan", "client leg: a <-> b"), 0U);
  EXPECT_EQ(writer.add_interface("wan", "target leg: c <-> d"), 1U);
  const auto blocks = read(writer.blocks());
  ASSERT_EQ(blocks.size(), 3U);
  EXPECT_EQ(blocks[0].type, 0x0a0d0d0aU);
  EXPECT_EQ(number(blocks[0].body, 0, 4), 0x1a2b3c4dU);
  const auto section = blocks[0].options(16);
  EXPECT_EQ(section.at(1), "flow t0-1-1");
  EXPECT_EQ(section.at(4), "limpid 1");
  EXPECT_EQ(blocks[1].type, 1U);
  EXPECT_EQ(number(blocks[1].body, 0, 2), 113U) << "LINKTYPE_LINUX_SLL";
  EXPECT_EQ(number(blocks[1].body, 4, 4), 1516U);
  EXPECT_EQ(blocks[2].options(8),
            (std::map<unsigned, std::string>{{2, "wan"}, {3, "target leg: c <-> d"}, {9, "\x09"}}));
}

TEST(Pcapng, packets_of_every_length_keep_their_bytes_and_times) {
  PcapngWriter writer(100, "", "");
  writer.add_interface("lan", "");
  writer.clear();
  for (std::uint32_t size = 0; size <= 120; ++size) {
    std::vector<std::byte> bytes(size);
    for (std::uint32_t i = 0; i < size; ++i) bytes[i] = static_cast<std::byte>(i);
    writer.add_packet(0,
                      {.bytes = bytes,
                       .whole_bytes = size + 70000,
                       .time_ns = 0x123456789abcdefU,
                       .type = PACKET_OUTGOING,
                       .hardware = ARPHRD_ETHER,
                       .protocol = 0x86dd,
                       .sender = {std::byte{2}},
                       .sender_bytes = 6},
                      size == 7 ? 3 : 0);
    const auto blocks = read(writer.blocks());
    writer.clear();
    ASSERT_EQ(blocks.size(), 1U);
    const auto& body = blocks[0].body;
    EXPECT_EQ(blocks[0].type, 6U);
    EXPECT_EQ(number(body, 4, 4), 0x1234567U);
    EXPECT_EQ(number(body, 8, 4), 0x89abcdefU);
    const std::uint32_t kept = std::min(size, 100U);
    ASSERT_EQ(number(body, 12, 4), kept + 16);
    EXPECT_EQ(number(body, 16, 4), size + 70016) << "larger than 64 KiB, as merged packets are";
    const auto header = body.subspan(20, 16);
    EXPECT_EQ(std::to_integer<int>(header[1]), PACKET_OUTGOING);
    EXPECT_EQ(std::to_integer<int>(header[3]), ARPHRD_ETHER);
    EXPECT_EQ(std::to_integer<int>(header[5]), 6);
    EXPECT_EQ(std::to_integer<int>(header[6]), 2);
    EXPECT_EQ(std::to_integer<int>(header[14]), 0x86);
    EXPECT_TRUE(std::ranges::equal(body.subspan(36, kept), std::span(bytes).first(kept)));
    const auto options = blocks[0].options(36 + (kept + 3) / 4 * 4);
    EXPECT_EQ(options.at(2), std::string("\x02\0\0\0", 4)) << "outbound";
    EXPECT_EQ(options.contains(4), size == 7);
  }
}

}  // namespace
}  // namespace limpid
