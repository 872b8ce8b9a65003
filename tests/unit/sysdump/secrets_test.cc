// What is hidden, and that nothing else is.
#include "sysdump/secrets.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

TEST(Secrets, urls_lose_their_users) {
  EXPECT_EQ(hide_secrets("socks5://user:pa:ss@192.0.2.1:1080 up"), "socks5://***@192.0.2.1:1080 up");
  EXPECT_EQ(hide_secrets("\"http://u:p@ss@h:1\", \"http://h:2\""), "\"http://***@h:1\", \"http://h:2\"");
  EXPECT_EQ(hide_secrets("socks5://a:b@h,socks5://c:d@i"), "socks5://***@h,socks5://***@i");
  EXPECT_EQ(hide_secrets("see https://example.org/x or mail a@b"), "see https://example.org/x or mail a@b");
}

TEST(Secrets, values_of_settings_that_say_so) {
  EXPECT_EQ(hide_secrets("password = \"a\\\"b\" # x\nuser = \"u\""), "password = \"***\" # x\nuser = \"u\"");
  EXPECT_EQ(hide_secrets("upstream-password = 'x'"), "upstream-password = \"***\"");
  EXPECT_EQ(hide_secrets("{\"api_key\": \"k\", \"n\": 1}"), "{\"api_key\": \"***\", \"n\": 1}");
  EXPECT_EQ(hide_secrets("Authorization: Basic abc==\nnext"), "Authorization: ***\nnext");
  EXPECT_EQ(hide_secrets("secret = \"\"\"two\nlines\"\"\"\nrest"), "secret = \"***\"\nrest");
  EXPECT_EQ(hide_secrets("no password is needed"), "no password is needed");
  EXPECT_EQ(hide_secrets("password = \"never closed"), "password = \"***\"");
}

TEST(Secrets, lists_of_values) {
  EXPECT_EQ(hide_secrets("tokens = [\"a]\", 'b',\n  \"c\"]\nuser = 1"), "tokens = [\"***\"]\nuser = 1");
  EXPECT_EQ(hide_secrets("{\"Cookie\": [\"a=b\", \"c=d\"], \"n\": 1}"), "{\"Cookie\": [\"***\"], \"n\": 1}");
  EXPECT_EQ(hide_secrets("Set-Cookie: a=b; c=d\nnext"), "Set-Cookie: ***\nnext");
  EXPECT_EQ(hide_secrets("passwords: [never closed"), "passwords: [\"***\"]");
  EXPECT_EQ(hide_secrets("cookies are refused"), "cookies are refused");
}

TEST(Secrets, words_behind_flags) {
  EXPECT_EQ(hide_secrets("limpid run --password s3cret --tcp 80"), "limpid run --password *** --tcp 80");
  EXPECT_EQ(hide_secrets("x --api-token abc\ny"), "x --api-token ***\ny");
  EXPECT_EQ(hide_secrets("x --password 'a' b"), "x --password '***' b");
  EXPECT_EQ(hide_secrets("[\"--upstream-password\", \"abc\", \"--tcp\"]"),
            "[\"--upstream-password\", \"***\", \"--tcp\"]");
  EXPECT_EQ(hide_secrets("x --password --tcp 80"), "x --password --tcp 80") << "it has no value";
  EXPECT_EQ(hide_secrets("run --dashboard-token-file /etc/limpid/token --tcp 80"),
            "run --dashboard-token-file /etc/limpid/token --tcp 80");
  EXPECT_EQ(hide_secrets("the password follows"), "the password follows");
}

TEST(Secrets, keys) {
  const auto hidden = hide_secrets("a\n-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nb");
  EXPECT_EQ(hidden.find("MIIE"), std::string::npos);
  EXPECT_TRUE(hidden.ends_with("-----END PRIVATE KEY-----\nb"));
}

}  // namespace
}  // namespace limpid
