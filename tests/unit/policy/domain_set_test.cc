// Facts about sets of names, beside a slow oracle: every entry compared with every name.
#include "policy/domain_set.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace limpid {
namespace {

DomainSet set_of(std::initializer_list<std::pair<DomainMatch, const char*>> entries) {
  DomainSet::Builder builder;
  for (const auto& [match, text] : entries) EXPECT_TRUE(builder.add(match, text)) << text;
  return std::move(builder).build().value();
}

TEST(DomainSet, tells_exact_names_from_all_below_them) {
  const auto set = set_of({{DomainMatch::exact, "example.com"}, {DomainMatch::suffix, "example.org"}});
  EXPECT_TRUE(set.matches("example.com"));
  EXPECT_FALSE(set.matches("www.example.com"));
  EXPECT_TRUE(set.matches("example.org"));
  EXPECT_TRUE(set.matches("a.b.example.org"));
  EXPECT_FALSE(set.matches("notexample.org"));
  EXPECT_FALSE(set.matches("org"));
  EXPECT_FALSE(set.matches(""));
}

TEST(DomainSet, a_suffix_that_is_also_an_exact_name_keeps_its_wider_meaning) {
  const auto set = set_of({{DomainMatch::suffix, "example.com"}, {DomainMatch::exact, "example.com"}});
  EXPECT_TRUE(set.matches("www.example.com"));
  EXPECT_EQ(set.size(), 1U);
}

TEST(DomainSet, reads_names_as_people_write_them) {
  const auto set = set_of({{DomainMatch::exact, "WWW.Example.COM."}, {DomainMatch::suffix, "*.Example.ORG"}});
  EXPECT_TRUE(set.matches("www.example.com"));
  EXPECT_TRUE(set.matches("x.example.org"));
}

TEST(DomainSet, finds_keywords_and_patterns_anywhere) {
  const auto set = set_of({{DomainMatch::keyword, "tracker"}, {DomainMatch::regex, "^ad[0-9]+\\."}});
  EXPECT_TRUE(set.matches("my-tracker.example.com"));
  EXPECT_TRUE(set.matches("ad42.example.com"));
  EXPECT_FALSE(set.matches("bad42.example.com"));
  EXPECT_FALSE(set.matches("track.example.com"));
}

TEST(DomainSet, refuses_what_is_no_name_and_says_why) {
  DomainSet::Builder builder;
  const std::pair<DomainMatch, const char*> wrong[] = {{DomainMatch::exact, ""},
                                                       {DomainMatch::exact, "a..b"},
                                                       {DomainMatch::exact, "a b"},
                                                       {DomainMatch::exact, "*.example.com"},
                                                       {DomainMatch::exact, "b\xc3\xbc.de"},
                                                       {DomainMatch::suffix, "."},
                                                       {DomainMatch::keyword, "a/b"},
                                                       {DomainMatch::keyword, ""},
                                                       {DomainMatch::regex, "("},
                                                       {DomainMatch::regex, "(?=x)"},
                                                       {DomainMatch::exact, "-.exa\nmple"}};
  for (const auto& [match, text] : wrong) {
    const auto added = builder.add(match, text);
    ASSERT_FALSE(added) << text;
    EXPECT_EQ(added.error().kind, ErrorKind::usage);
    EXPECT_FALSE(added.error().cause.empty());
  }
  EXPECT_FALSE(builder.add(DomainMatch::exact, std::string(64, 'a') + ".com"));
  EXPECT_TRUE(builder.add(DomainMatch::exact, std::string(63, 'a') + ".com"));
}

TEST(DomainSet, agrees_with_a_comparison_of_everything_with_everything) {
  std::mt19937 random(7);
  const auto name = [&] {
    std::string text;
    for (unsigned labels = random() % 4 + 1; labels > 0; --labels) {
      if (!text.empty()) text += '.';
      for (unsigned length = random() % 2 + 1; length > 0; --length) text += static_cast<char>('a' + random() % 3);
    }
    return text;
  };
  for (int round = 0; round < 200; ++round) {
    DomainSet::Builder builder;
    std::vector<std::pair<bool, std::string>> entries;
    for (unsigned i = 0; i < 30; ++i) {
      entries.emplace_back(random() % 2 == 0, name());
      ASSERT_TRUE(builder.add(entries.back().first ? DomainMatch::suffix : DomainMatch::exact, entries.back().second));
    }
    const auto set = std::move(builder).build().value();
    for (int i = 0; i < 200; ++i) {
      const std::string asked = name();
      const bool expected = std::ranges::any_of(entries, [&](const auto& entry) {
        return asked == entry.second || (entry.first && asked.ends_with("." + entry.second));
      });
      ASSERT_EQ(set.matches(asked), expected) << asked;
    }
  }
}

TEST(DomainSet, holds_a_million_names) {
  DomainSet::Builder builder;
  for (unsigned i = 0; i < 1'000'000; ++i) {
    ASSERT_TRUE(builder.add(i % 2 == 0 ? DomainMatch::exact : DomainMatch::suffix,
                            "host" + std::to_string(i) + ".example.net"));
  }
  const auto set = std::move(builder).build().value();
  EXPECT_EQ(set.size(), 1'000'000U);
  for (unsigned i = 0; i < 1'000'000; i += 997) {
    const std::string name = "host" + std::to_string(i) + ".example.net";
    ASSERT_TRUE(set.matches(name));
    ASSERT_EQ(set.matches("x." + name), i % 2 == 1);
  }
  EXPECT_FALSE(set.matches("host1000000.example.net"));
  EXPECT_FALSE(set.matches("example.net"));
}

}  // namespace
}  // namespace limpid
