// Facts about SOCKS as a client: what is said, what is taken, and that nothing behind the answer is.
#include <gtest/gtest.h>

#include "tests/unit/upstream/codec_bytes.h"
#include "upstream/socks4.h"
#include "upstream/socks5.h"
#include "upstream/socks5_datagram.h"

namespace limpid {
namespace {

Destination to(const char* address, std::string name = {}) {
  return {.address = SocketAddress::parse(address).value(), .name = std::move(name)};
}

const std::string kGranted = "\5\0\0\1\12\0\0\1\4\70"s;

TEST(Socks5, connects_without_authentication) {
  Socks5Handshake socks({}, to("198.51.100.2:80"), Socks5Command::connect);
  EXPECT_EQ(said_by(socks), "\5\1\0"s);
  EXPECT_EQ(give_whole(socks, "\5\0"s), 2U);
  EXPECT_EQ(said_by(socks), "\5\1\0\1\306\63\144\2\0\120"s);
  EXPECT_EQ(socks.state(), HandshakeState::running);
  EXPECT_EQ(give_whole(socks, kGranted + "what the server says"), kGranted.size());
  EXPECT_EQ(socks.state(), HandshakeState::done);
  EXPECT_EQ(socks.bound().to_string(), "10.0.0.1:1080");
  EXPECT_EQ(give_whole(socks, "more"), 0U);
}

TEST(Socks5, a_byte_at_a_time_is_the_same) {
  Socks5Handshake socks({.user = "me", .password = "secret"}, to("[2001:db8::2]:443"), Socks5Command::connect);
  EXPECT_EQ(said_by(socks), "\5\2\0\2"s);
  EXPECT_EQ(give_in_bytes(socks, "\5\2"s), 2U);
  EXPECT_EQ(said_by(socks), "\1\2me\6secret"s);
  EXPECT_FALSE(socks.is_authorized());
  EXPECT_EQ(give_in_bytes(socks, "\1\0"s), 2U);
  EXPECT_TRUE(socks.is_authorized());
  EXPECT_EQ(said_by(socks), "\5\1\0\4\x20\1\r\xb8\0\0\0\0\0\0\0\0\0\0\0\2\1\xbb"s);
  const std::string answer = "\5\0\0\4"s + std::string(16, '\1') + "\0\7"s;
  EXPECT_EQ(give_in_bytes(socks, answer + "xyz"), answer.size());
  EXPECT_EQ(socks.state(), HandshakeState::done);
}

TEST(Socks5, an_answer_with_a_name_is_taken_to_its_end) {
  for (const std::size_t length : {0U, 1U, 255U}) {
    Socks5Handshake socks({}, to("198.51.100.2:80", "www.example.org"), Socks5Command::connect);
    give_whole(socks, "\5\0"s);
    EXPECT_EQ(said_by(socks), "\5\1\0"s + "\5\1\0\3\17www.example.org\0\120"s);
    const std::string answer = "\5\0\0\3"s + static_cast<char>(length) + std::string(length, 'a') + "\0\7"s;
    EXPECT_EQ(give_in_bytes(socks, answer + "flow"), answer.size());
    EXPECT_EQ(socks.state(), HandshakeState::done);
  }
}

TEST(Socks5, each_reply_says_whose_fault_it_is) {
  const std::pair<char, HandshakeState> replies[] = {
      {1, HandshakeState::rejected},    {2, HandshakeState::denied},   {3, HandshakeState::unreachable},
      {4, HandshakeState::unreachable}, {5, HandshakeState::refused},  {6, HandshakeState::unreachable},
      {7, HandshakeState::rejected},    {8, HandshakeState::rejected}, {'\x7f', HandshakeState::rejected}};
  for (const auto& [reply, state] : replies) {
    Socks5Handshake socks({}, to("198.51.100.2:80"), Socks5Command::connect);
    give_whole(socks, "\5\0"s);
    give_whole(socks, "\5"s + reply + "\0\1\0\0\0\0\0\0"s);
    EXPECT_EQ(socks.state(), state) << int{reply};
  }
}

TEST(Socks5, hostile_answers_end_it) {
  for (const auto& answer :
       {"\4\0"s, "HTTP/1.1 400"s, "\5\1"s, "\5\2"s, "\0\0"s, "\5\0\4\0\0\1\0"s, "\5\0\5\0\0\5\0"s, "\5\0\5\0\0\0\0"s}) {
    Socks5Handshake socks({}, to("198.51.100.2:80"), Socks5Command::connect);
    give_whole(socks, answer);
    EXPECT_EQ(socks.state(), HandshakeState::malformed) << answer;
  }
  Socks5Handshake nobody({}, to("198.51.100.2:80"), Socks5Command::connect);
  give_whole(nobody, "\5\xff"s);
  EXPECT_EQ(nobody.state(), HandshakeState::unauthorized);
  Socks5Handshake wrong({.user = "me", .password = "x"}, to("198.51.100.2:80"), Socks5Command::connect);
  give_whole(wrong, "\5\2\1\1"s);
  EXPECT_EQ(wrong.state(), HandshakeState::unauthorized);
}

TEST(Socks5, truncated_answers_leave_it_waiting) {
  const std::string all = "\5\0"s + kGranted;
  for (std::size_t length = 0; length < all.size(); ++length) {
    Socks5Handshake socks({}, to("198.51.100.2:80"), Socks5Command::connect);
    EXPECT_EQ(give_whole(socks, all.substr(0, length)), length);
    EXPECT_EQ(socks.state(), HandshakeState::running) << length;
  }
}

TEST(Socks4, speaks_of_addresses_and_in_4a_of_names) {
  Socks4Handshake plain("me", to("198.51.100.2:80"));
  EXPECT_EQ(said_by(plain), "\4\1\0\120\306\63\144\2me\0"s);
  Socks4Handshake named("", to("198.51.100.2:80", "example.org"));
  EXPECT_EQ(said_by(named), "\4\1\0\120\0\0\0\1\0example.org\0"s);
}

TEST(Socks4, takes_eight_bytes) {
  const std::pair<char, HandshakeState> replies[] = {
      {90, HandshakeState::done},         {91, HandshakeState::rejected},  {92, HandshakeState::unauthorized},
      {93, HandshakeState::unauthorized}, {94, HandshakeState::malformed}, {0, HandshakeState::malformed}};
  for (const auto& [reply, state] : replies) {
    Socks4Handshake whole("", to("198.51.100.2:80"));
    Socks4Handshake bytes("", to("198.51.100.2:80"));
    const std::string answer = "\0"s + reply + "\0\0\0\0\0\0"s;
    EXPECT_EQ(give_whole(bytes, answer.substr(0, 7)), 7U);
    EXPECT_EQ(bytes.state(), HandshakeState::running);
    EXPECT_EQ(give_in_bytes(bytes, "\0more"s), 1U);
    EXPECT_EQ(give_whole(whole, answer + "more"), 8U);
    EXPECT_EQ(whole.state(), state) << int{reply};
    EXPECT_EQ(bytes.state(), state) << int{reply};
  }
}

TEST(Socks5Datagram, what_is_written_can_be_read) {
  for (const char* address : {"198.51.100.2:53", "[2001:db8::2]:4433"}) {
    const auto destination = SocketAddress::parse(address).value();
    const Socks5DatagramHeader header(destination);
    std::string datagram(reinterpret_cast<const char*>(header.bytes().data()), header.bytes().size());
    const auto read = read_socks5_datagram(bytes_of(datagram + "payload"));
    ASSERT_TRUE(read);
    EXPECT_EQ(read->from, destination);
    EXPECT_EQ(read->payload.size(), 7U);
    for (std::size_t length = 0; length < datagram.size(); ++length) {
      EXPECT_FALSE(read_socks5_datagram(bytes_of(datagram.substr(0, length)))) << length;
    }
  }
}

TEST(Socks5Datagram, a_name_stands_in_for_the_address) {
  const auto destination = SocketAddress::parse("198.51.100.2:443").value();
  const Socks5DatagramHeader header(destination, "www.example");
  const std::string written(reinterpret_cast<const char*>(header.bytes().data()), header.bytes().size());
  EXPECT_EQ(written, std::string("\0\0\0\3\x0bwww.example\x01\xbb", 18));
  EXPECT_EQ(Socks5DatagramHeader(destination, std::string(300, 'a')).bytes().size(), 4 + 1 + 255 + 2U);
}

TEST(Socks5Datagram, fragments_and_names_are_left_alone) {
  EXPECT_FALSE(read_socks5_datagram(bytes_of("\0\0\1\1\306\63\144\2\0\65x"s)));
  EXPECT_FALSE(read_socks5_datagram(bytes_of("\0\0\0\3\3abc\0\65x"s)));
}

}  // namespace
}  // namespace limpid
