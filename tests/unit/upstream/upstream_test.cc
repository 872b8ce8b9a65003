// Facts about upstreams as users write them.
#include "upstream/upstream.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

Upstream parsed(std::string_view text) {
  auto upstream = parse_upstream(text);
  EXPECT_TRUE(upstream) << text << ": " << (upstream ? "" : upstream.error().message());
  return upstream.value_or(Upstream{});
}

TEST(ParseUpstream, reads_each_part) {
  const auto office = parsed("socks5://user:pass@10.0.0.1:1080?name=office&source=10.0.0.9&interface=eth1");
  EXPECT_EQ(office.kind, UpstreamKind::socks5);
  EXPECT_EQ(office.server, SocketAddress::parse("10.0.0.1:1080").value());
  EXPECT_EQ(office.credentials.user, "user");
  EXPECT_EQ(office.credentials.password, "pass");
  EXPECT_EQ(office.name, "office");
  EXPECT_EQ(office.interface, "eth1");
  EXPECT_EQ(office.source, IpAddress::parse("10.0.0.9").value());
  EXPECT_FALSE(office.wants_names);
}

TEST(ParseUpstream, the_usual_ports_need_not_be_written) {
  EXPECT_EQ(parsed("socks5h://proxy.example.org").port, Port{1080});
  EXPECT_TRUE(parsed("socks5h://proxy.example.org").wants_names);
  EXPECT_EQ(parsed("http://[2001:db8::1]").server, SocketAddress::parse("[2001:db8::1]:3128").value());
  EXPECT_TRUE(parsed("socks4a://10.0.0.1").wants_names);
  EXPECT_TRUE(parsed("http://10.0.0.1?names=yes").wants_names);
}

TEST(ParseUpstream, some_go_where_the_client_goes) {
  EXPECT_FALSE(parsed("direct://").server);
  EXPECT_EQ(parsed("direct://?interface=eth1").interface, "eth1");
  EXPECT_FALSE(parsed("proxy-v2://").server);
  EXPECT_EQ(parsed("proxy-v1://10.0.0.1:80").server, SocketAddress::parse("10.0.0.1:80").value());
  EXPECT_EQ(parsed("tcp://[2001:db8::1]:80").kind, UpstreamKind::tcp);
}

TEST(ParseUpstream, tls_is_of_https_alone) {
  const auto proxy = parsed("https://proxy.example?ca-file=/etc/a%20b.pem&server-name=other.example&verify=no");
  EXPECT_EQ(proxy.kind, UpstreamKind::http);
  EXPECT_EQ(proxy.port, Port{443});
  EXPECT_EQ(proxy.tls,
            (UpstreamTls{.used = true, .verify = false, .server_name = "other.example", .ca_file = "/etc/a b.pem"}));
  EXPECT_TRUE(parsed("https://10.0.0.1").tls.verify);
  EXPECT_FALSE(parsed("http://10.0.0.1").tls.used);
  for (const auto* wrong : {"http://10.0.0.1?verify=no", "https://10.0.0.1?verify=1", "https://10.0.0.1?ca-file=a.pem",
                            "https://10.0.0.1?server-name=a%20b", "https://10.0.0.1?server-name="}) {
    EXPECT_FALSE(parse_upstream(wrong)) << wrong;
  }
}

TEST(ParseUpstream, a_scheme_that_is_not_known_is_named_with_those_that_are) {
  const auto upstream = parse_upstream("ftp://user:secret@x:21?name=a");
  ASSERT_FALSE(upstream);
  EXPECT_EQ(upstream.error().object, "ftp://x:21") << "without the password";
  EXPECT_EQ(upstream.error().cause, "the scheme is not known");
  EXPECT_EQ(upstream.error().remedy,
            "those that are: socks5, socks5h, socks4, socks4a, http, https, tcp, proxy-v1, proxy-v2, direct");
}

TEST(ParseUpstream, passwords_may_have_any_bytes) {
  const auto upstream = parsed("http://a%40b:p%3A%2F%3F%25@10.0.0.1:8080");
  EXPECT_EQ(upstream.credentials.user, "a@b");
  EXPECT_EQ(upstream.credentials.password, "p:/?%");
  EXPECT_EQ(upstream.name, "http://10.0.0.1:8080");
  EXPECT_EQ(parsed("socks5://me@10.0.0.1?password-file=/etc/limpid/password").password_file, "/etc/limpid/password");
}

TEST(ParseUpstream, the_error_names_the_part_and_shows_no_password) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "empty"},
      {"10.0.0.1:1080", "no scheme"},
      {"ftp://10.0.0.1", "scheme"},
      {"socks5://", "host: it is missing"},
      {"socks5://10.0.0.1:0", "port"},
      {"socks5://10.0.0.1:65536", "port"},
      {"socks5://10.0.0.1:", "port"},
      {"tcp://10.0.0.1", "port: it is missing"},
      {"socks5://2001:db8::1", "brackets"},
      {"socks5://[2001:db8::1", "bracket"},
      {"socks5://0.0.0.0", "no single host"},
      {"socks5://ex ample", "do not print"},
      {"socks5://exa/mple", "neither"},
      {"direct://10.0.0.1", "direct"},
      {"socks5://:secret@10.0.0.1", "user: it is empty"},
      {"socks5://me:%zzsecret@10.0.0.1", "% without"},
      {"socks5://me:secret%4@10.0.0.1", "% without"},
      {"http://a%3Ab:secret@10.0.0.1", "colon"},
      {"socks4://me:secret@10.0.0.1", "password"},
      {"tcp://me:secret@10.0.0.1:1", "user: nobody asks"},
      {"socks5://me:sec?ret@10.0.0.1", "options: there is an @"},
      {"socks5://10.0.0.1?colour=red", "colour"},
      {"socks5://10.0.0.1?name=Office", "name"},
      {"socks5://10.0.0.1?interface=a/b", "interface"},
      {"socks5://10.0.0.1?interface=abcdefghijklmnop", "interface"},
      {"socks5://10.0.0.1?source=here", "source"},
      {"socks5://10.0.0.1?password-file=/x", "there is no user"},
      {"socks5://me:secret@10.0.0.1?password-file=/x", "already"},
      {"socks5://10.0.0.1?name", "KEY=VALUE"},
      {"tcp://10.0.0.1:1?names=yes", "names"},
  };
  for (const auto& [text, part] : cases) {
    const auto upstream = parse_upstream(text);
    ASSERT_FALSE(upstream) << text;
    EXPECT_EQ(upstream.error().kind, ErrorKind::usage);
    EXPECT_NE(upstream.error().message().find(part), std::string::npos) << text << " → " << upstream.error().message();
    EXPECT_EQ(upstream.error().message().find("secret"), std::string::npos) << upstream.error().message();
    EXPECT_FALSE(upstream.error().remedy.empty()) << text;
  }
}

}  // namespace
}  // namespace limpid
