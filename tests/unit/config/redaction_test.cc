// Passwords in settings are hidden, and nothing else is.
#include "config/redaction.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

TEST(Redaction, hides_the_password_of_a_url_and_shows_that_it_changed) {
  const std::string one = without_secrets("upstream", "socks5://user:one@192.0.2.1:1080");
  const std::string two = without_secrets("upstream", "socks5://user:two@192.0.2.1:1080");
  EXPECT_TRUE(one.starts_with("socks5://user:***-") && one.ends_with("@192.0.2.1:1080")) << one;
  EXPECT_EQ(one.find("one"), std::string::npos);
  EXPECT_NE(one, two);
  EXPECT_EQ(one, without_secrets("upstream", "socks5://user:one@192.0.2.1:1080"));
}

TEST(Redaction, hides_what_has_separators_in_it) {
  for (const char* value :
       {"http://user:se:cret@[2001:db8::1]:3128", "http://:secret@host", "socks5h://u:secret@h?own=1"})
    EXPECT_EQ(without_secrets("upstream", value).find("cret"), std::string::npos) << value;
}

TEST(Redaction, leaves_the_rest) {
  for (const char* value : {"80,443", "socks5://192.0.2.1:1080", "socks5://user@host", "direct://", ""})
    EXPECT_EQ(without_secrets("upstream", value), value);
  EXPECT_EQ(without_secrets("password", "secret").find("secret"), std::string::npos);
}

}  // namespace
}  // namespace limpid
