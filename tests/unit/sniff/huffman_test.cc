// HPACK's strings: the examples of RFC 7541 appendix C, and every symbol against codes written down by hand.
#include "sniff/huffman.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

namespace limpid {
namespace {

std::vector<std::byte> bytes(std::string_view hex) {
  std::vector<std::byte> result;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    result.push_back(static_cast<std::byte>(std::stoul(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return result;
}

std::string decoded(std::string_view hex) {
  std::array<char, 300> text{};
  const auto length = huffman_decode(bytes(hex), text);
  return length ? std::string(text.data(), std::min(*length, text.size())) : "refused";
}

TEST(Huffman, reads_the_examples_of_the_rfc) {
  EXPECT_EQ(decoded("f1e3c2e5f23a6ba0ab90f4ff"), "www.example.com");
  EXPECT_EQ(decoded("a8eb10649cbf"), "no-cache");
  EXPECT_EQ(decoded("25a849e95ba97d7f"), "custom-key");
  EXPECT_EQ(decoded("25a849e95bb8e8b4bf"), "custom-value");
  EXPECT_EQ(decoded("d07abe941054d444a8200595040b8166e082a62d1bff"), "Mon, 21 Oct 2013 20:13:21 GMT");
  EXPECT_EQ(decoded("94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007"),
            "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
  EXPECT_EQ(decoded(""), "");
}

/// All 256 in a row, as another implementation (python3-hpack) writes them.
TEST(Huffman, reads_every_symbol) {
  std::string all;
  for (int c = 0; c < 256; ++c) all += static_cast<char>(c);
  EXPECT_EQ(decoded("ffc7fffd8fffffe2fffffe3fffffe4fffffe5fffffe6fffffe7fffffe8ffffeafffffff3fffffa7fffffabffffffdfffff"
                    "ebfffffecfffffedfffffe"
                    "efffffefffffff0ffffff1ffffff2fffffffbfffffcffffffd3fffffd7fffffdbfffffdffffffe3fffffe7fffffebfffff"
                    "ed4fe3f9ffaffcabf1febf"
                    "afefe7fdfd2cbb00089969b71d79fb9f7fff20ffbff3ff50ddbd7f061c58f265cd9f469d5af66dddbf871e5f9cff7ff7ff"
                    "fc3ff9ffe45fff4719242c"
                    "b34e6e9d68a6a3d7dac426defe3cfaf7fffbfe7ffbffdffffffcfffe6ffff4bfff9ffffa3fffd3ffff53fffd5ffffb3fff"
                    "eb7fffdaffffb7ffff73ff"
                    "feeffffdeffffebffffbfffffd9ffffdbfffebffffe0ffffeeffffc3ffff8bffff1ffffe4fffee7fffb1ffff97fffd9fff"
                    "fcdffff9fffffbffffdaff"
                    "feeffff4ffffb7fffee7fffe8ffffd3fffdeffffd5fffeeffffbdffffe1fffdfffff7fffff5ffffecffff07fff87fffe0f"
                    "fff17fffedffff87ffff77"
                    "fffeffffeaffff8bfffe3ffff93ffff87fffcbffff37ffff1fffff83ffffe1fffebfffe3ffff3fffff2ffffa3ffffd9fff"
                    "ff17ffffc7fffff27ffffd"
                    "efffffbffffff2fffff8fffffb7fff97fff8fffffe6fffffc1fffff87ffffe7fffffc5ffffe5fffe4ffff2fffffd1fffff"
                    "4ffffffefffffe3fffffc9"
                    "fffff97fffb3ffffcffffb7fffcdffff4ffff9ffffd1ffffcffffeaffffafffffddffffeffffff4fffff5fffffabffffa7"
                    "ffffd7fffff9bffffecfff"
                    "ffb7fffff3fffffe8fffffd3fffffabfffff5fffffff7ffffecfffffdbfffffbbfffff7ffffff0fffffbbf"),
            all);
}

/// The shortest code, and the longest: RFC 7541 appendix B.
TEST(Huffman, reads_codes_of_five_and_of_thirty_bits) {
  EXPECT_EQ(decoded("07"), "0");                     // 00000, then ones
  EXPECT_EQ(decoded("fffffff3"), "\n");              // 0x3ffffffc in 30 bits, then ones
  EXPECT_EQ(decoded("fffffff7"), "\r");              // 0x3ffffffd
  EXPECT_EQ(decoded("fffffffb"), "\x16");            // 0x3ffffffe
  EXPECT_EQ(decoded("ff9fffff"), "refused");         // a zero of 13 bits, then too many ones
  EXPECT_EQ(decoded("ffc7"), std::string(1, '\0'));  // 0x1ff8 in 13 bits
}

TEST(Huffman, refuses_the_end_of_string_and_wrong_padding) {
  EXPECT_EQ(decoded("ffffffff"), "refused");
  EXPECT_EQ(decoded("ff"), "refused");    // eight ones
  EXPECT_EQ(decoded("06"), "refused");    // zeroes behind a '0'
  EXPECT_EQ(decoded("07ff"), "refused");  // a whole byte of padding
}

TEST(Huffman, counts_what_has_no_room) {
  std::array<char, 3> text{};
  EXPECT_EQ(huffman_decode(bytes("f1e3c2e5f23a6ba0ab90f4ff"), text), 15U);
  EXPECT_EQ(std::string_view(text.data(), 3), "www");
  EXPECT_EQ(huffman_decode(bytes("f1e3c2e5f23a6ba0ab90f4ff"), {}), 15U);
}

}  // namespace
}  // namespace limpid
