// Facts about the PROXY protocol, written and read.
#include <gtest/gtest.h>

#include "tests/unit/upstream/codec_bytes.h"
#include "upstream/proxy_header.h"
#include "upstream/proxy_reader.h"

namespace limpid {
namespace {

using State = ProxyReader::State;

SocketAddress at(const char* text) {
  return SocketAddress::parse(text).value();
}

std::string header(ProxyVersion version, const char* client, const char* destination) {
  ProxyHeader made(version, at(client), at(destination));
  EXPECT_EQ(made.state(), HandshakeState::running);
  auto text = said_by(made);
  EXPECT_EQ(made.state(), HandshakeState::done);
  return text;
}

const std::string kSignature = "\r\n\r\n\0\r\nQUIT\n"s;

TEST(ProxyHeader, version_1_is_a_line) {
  EXPECT_EQ(header(ProxyVersion::v1, "192.0.2.2:5000", "198.51.100.2:80"),
            "PROXY TCP4 192.0.2.2 198.51.100.2 5000 80\r\n");
  EXPECT_EQ(header(ProxyVersion::v1, "[2001:db8::2]:5000", "[2001:db8::3]:80"),
            "PROXY TCP6 2001:db8::2 2001:db8::3 5000 80\r\n");
  EXPECT_EQ(header(ProxyVersion::v1, "192.0.2.2:5000", "[2001:db8::3]:80"), "PROXY UNKNOWN\r\n");
}

TEST(ProxyHeader, version_2_is_binary) {
  EXPECT_EQ(header(ProxyVersion::v2, "192.0.2.2:5000", "198.51.100.2:80"),
            kSignature + "\x21\x11\0\14\300\0\2\2\306\63\144\2\23\210\0\120"s);
  EXPECT_EQ(header(ProxyVersion::v2, "[2001:db8::2]:5000", "[2001:db8::3]:80").size(), 52U);
}

TEST(ProxyReader, reads_what_is_written_and_nothing_behind_it) {
  for (const auto version : {ProxyVersion::v1, ProxyVersion::v2}) {
    for (const auto& [client, destination] :
         {std::pair{"192.0.2.2:5000", "198.51.100.2:80"}, std::pair{"[2001:db8::2]:5000", "[2001:db8::3]:80"},
          std::pair{"255.255.255.255:65535", "0.0.0.0:1"}}) {
      const auto text = header(version, client, destination);
      ProxyReader whole;
      ProxyReader bytes;
      EXPECT_EQ(give_whole(whole, text + "GET / HTTP/1.1"), text.size());
      EXPECT_EQ(give_in_bytes(bytes, text + "PROXY TCP4"), text.size());
      for (const auto* reader : {&whole, &bytes}) {
        EXPECT_EQ(reader->state(), State::done);
        EXPECT_EQ(reader->client(), at(client));
        EXPECT_EQ(reader->destination(), at(destination));
      }
      for (std::size_t length = 0; length < text.size(); ++length) {
        ProxyReader truncated;
        EXPECT_EQ(give_whole(truncated, text.substr(0, length)), length);
        EXPECT_EQ(truncated.state(), State::running) << length;
      }
    }
  }
}

TEST(ProxyReader, an_address_of_the_other_family_comes_back_as_itself) {
  const auto text = header(ProxyVersion::v2, "192.0.2.2:5000", "[2001:db8::3]:80");
  ProxyReader reader;
  EXPECT_EQ(give_whole(reader, text), text.size());
  EXPECT_EQ(reader.client(), at("192.0.2.2:5000"));
}

TEST(ProxyReader, who_names_nobody_speaks_for_himself) {
  for (const auto& text : {"PROXY UNKNOWN\r\n"s, "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"s, kSignature + "\x20\0\0\0"s,
                           kSignature + "\x20\x11\0\2ab"s, kSignature + "\x21\0\0\0"s}) {
    ProxyReader reader;
    EXPECT_EQ(give_whole(reader, text + "x"), text.size());
    EXPECT_EQ(reader.state(), State::done) << text;
    EXPECT_FALSE(reader.client());
  }
}

TEST(ProxyReader, further_facts_are_passed_over) {
  const std::string text =
      kSignature + "\x21\x11\2\0"s + "\300\0\2\2\306\63\144\2\23\210\0\120"s + std::string(500, 'x');
  ProxyReader reader;
  EXPECT_EQ(give_in_bytes(reader, text + "flow"), text.size());
  EXPECT_EQ(reader.client(), at("192.0.2.2:5000"));
}

TEST(ProxyReader, hostile_headers_end_it) {
  for (const auto& text : {"GET / HTTP/1.1\r\n"s,
                           "PROXY TCP4 192.0.2.2 198.51.100.2 5000\r\n"s,
                           "PROXY TCP4 192.0.2.2 198.51.100.2 5000 80\n"s,
                           "PROXY TCP4 192.0.2.2 198.51.100.2 5000 65536\r\n"s,
                           "PROXY TCP4 192.0.2.2 198.51.100.2 05000 80\r\n"s,
                           "PROXY TCP4 192.0.2.2 198.51.100.2 5000 80 \r\n"s,
                           "PROXY TCP4  192.0.2.2 198.51.100.2 5000 80\r\n"s,
                           "PROXY TCP4 2001:db8::1 2001:db8::2 5000 80\r\n"s,
                           "PROXY TCP6 192.0.2.2 198.51.100.2 5000 80\r\n"s,
                           "PROXY UDP4 192.0.2.2 198.51.100.2 5000 80\r\n"s,
                           "PROXY TCP4 192.0.2.256 198.51.100.2 5000 80\r\n"s,
                           "proxy TCP4 192.0.2.2 198.51.100.2 5000 80\r\n"s,
                           "PROXY TCP4 "s + std::string(200, '1'),
                           "\r\n\r\n\0\r\nQUIX\n"s,
                           kSignature + "\x31\x11\0\14"s,
                           kSignature + "\x22\x11\0\14"s,
                           kSignature + "\x21\x12\0\14"s,
                           kSignature + "\x21\x31\0\330"s,
                           kSignature + "\x21\x11\0\13"s,
                           kSignature + "\x21\x21\0\43"s,
                           kSignature + "\x21\x11\xff\xff"s}) {
    ProxyReader whole;
    ProxyReader bytes;
    give_whole(whole, text);
    give_in_bytes(bytes, text);
    EXPECT_EQ(whole.state(), State::malformed) << text;
    EXPECT_EQ(bytes.state(), State::malformed) << text;
  }
}

}  // namespace
}  // namespace limpid
