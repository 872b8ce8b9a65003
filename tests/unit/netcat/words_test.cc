// split_words: which characters mean something, and that no others do.
#include "netcat/words.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

using Words = std::vector<std::string>;

Words split(std::string_view text) {
  auto words = split_words(text);
  return words ? *words : Words{"error: " + words.error().cause};
}

TEST(SplitWords, blanks_separate) {
  EXPECT_EQ(split("  cat\t-n \n x "), (Words{"cat", "-n", "x"}));
}

TEST(SplitWords, quotes_keep_blanks_and_join) {
  EXPECT_EQ(split(R"('a b'"c d"e)"), (Words{"a bc de"}));
  EXPECT_EQ(split(R"(x '' "")"), (Words{"x", "", ""}));
}

TEST(SplitWords, backslashes) {
  EXPECT_EQ(split(R"(a\ b \' '\' "\"" "\\" "\n")"), (Words{"a b", "'", "\\", "\"", "\\", "\\n"}));
}

TEST(SplitWords, nothing_else_means_anything) {
  EXPECT_EQ(split("$HOME `id` * | ; > f & #x ~ $(y)"),
            (Words{"$HOME", "`id`", "*", "|", ";", ">", "f", "&", "#x", "~", "$(y)"}));
}

TEST(SplitWords, mistakes_are_usage_errors) {
  for (const std::string_view text : {"", "  ", "'a", "\"a", "a\\", R"("a\")"}) {
    const auto words = split_words(text);
    ASSERT_FALSE(words) << text;
    EXPECT_EQ(words.error().kind, ErrorKind::usage) << text;
  }
}

}  // namespace
}  // namespace limpid
