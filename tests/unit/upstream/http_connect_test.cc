// Facts about HTTP CONNECT as a client.
#include "upstream/http_connect.h"

#include <gtest/gtest.h>

#include "tests/unit/upstream/codec_bytes.h"

namespace limpid {
namespace {

HttpConnectHandshake to(const char* address, std::string name = {}, const Credentials& credentials = {}) {
  return {credentials, {.address = SocketAddress::parse(address).value(), .name = std::move(name)}};
}

TEST(HttpConnect, says_where_to_and_who) {
  auto plain = to("198.51.100.2:443");
  EXPECT_EQ(said_by(plain), "CONNECT 198.51.100.2:443 HTTP/1.1\r\nHost: 198.51.100.2:443\r\n\r\n");
  auto ipv6 = to("[2001:db8::2]:443");
  EXPECT_TRUE(said_by(ipv6).starts_with("CONNECT [2001:db8::2]:443 HTTP/1.1\r\n"));
  auto named = to("198.51.100.2:443", "www.example.org");
  EXPECT_TRUE(said_by(named).starts_with("CONNECT www.example.org:443 HTTP/1.1\r\nHost: www.example.org:443\r\n"));
  // RFC 7617, section 2.
  auto known = to("198.51.100.2:443", "", {.user = "Aladdin", .password = "open sesame"});
  EXPECT_NE(said_by(known).find("Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"), std::string::npos);
}

TEST(HttpConnect, base64_pads_each_length) {
  const std::pair<const char*, const char*> cases[] = {{"b", "YTpi"}, {"bc", "YTpiYw=="}, {"bcd", "YTpiY2Q="}};
  for (const auto& [password, encoded] : cases) {
    auto http = to("198.51.100.2:443", "", {.user = "a", .password = password});
    EXPECT_NE(said_by(http).find("Basic "s + encoded + "\r\n"), std::string::npos) << encoded;
  }
}

TEST(HttpConnect, takes_the_header_and_nothing_behind_it) {
  for (const char* answer :
       {"HTTP/1.1 200 Connection established\r\n\r\n", "HTTP/1.0 200\r\nVia: 1.0 x\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\n\n", "HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"}) {
    auto whole = to("198.51.100.2:443");
    auto bytes = to("198.51.100.2:443");
    const std::string text = answer;
    EXPECT_EQ(give_whole(whole, text + "\r\n220 hello\r\n"), text.size()) << text;
    EXPECT_EQ(whole.state(), HandshakeState::done) << text;
    EXPECT_EQ(give_in_bytes(bytes, text + "220"), text.size()) << text;
    EXPECT_EQ(bytes.state(), HandshakeState::done) << text;
    for (std::size_t length = 0; length < text.size(); ++length) {
      auto truncated = to("198.51.100.2:443");
      EXPECT_EQ(give_whole(truncated, text.substr(0, length)), length);
      EXPECT_EQ(truncated.state(), HandshakeState::running) << length;
    }
  }
}

TEST(HttpConnect, a_status_says_whose_fault_it_is) {
  const std::pair<const char*, HandshakeState> cases[] = {
      {"403", HandshakeState::denied},      {"407", HandshakeState::unauthorized}, {"502", HandshakeState::unreachable},
      {"503", HandshakeState::unreachable}, {"504", HandshakeState::unreachable},  {"400", HandshakeState::rejected},
      {"500", HandshakeState::rejected},    {"101", HandshakeState::rejected},     {"302", HandshakeState::rejected}};
  for (const auto& [status, state] : cases) {
    auto http = to("198.51.100.2:443");
    give_whole(http, "HTTP/1.1 "s + status + " No\r\n\r\n<html>");
    EXPECT_EQ(http.state(), state) << status;
  }
}

TEST(HttpConnect, hostile_answers_end_it) {
  for (const char* answer :
       {"SSH-2.0-x\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 2000 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1\r\n\r\n",
        "\r\n", "HTTP/1.1 200 OK\r\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", "HTTP/1.1 -20 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n"}) {
    auto http = to("198.51.100.2:443");
    give_whole(http, answer);
    EXPECT_EQ(http.state(), HandshakeState::malformed) << answer;
  }
}

TEST(HttpConnect, an_endless_header_is_given_up) {
  auto http = to("198.51.100.2:443");
  const std::string line = "HTTP/1.1 200 OK\r\n" + std::string(1 << 20, 'a');
  EXPECT_EQ(give_whole(http, line), HttpConnectHandshake::kMostHeaderBytes);
  EXPECT_EQ(http.state(), HandshakeState::malformed);
  auto endless = to("198.51.100.2:443");
  std::string interim;
  for (int i = 0; i < 2000; ++i) interim += "HTTP/1.1 100 Continue\r\n\r\n";
  give_whole(endless, interim);
  EXPECT_EQ(endless.state(), HandshakeState::malformed);
}

}  // namespace
}  // namespace limpid
