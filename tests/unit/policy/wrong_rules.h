// Texts that are no rules, each with where the mistake is said to be and what is to mend it.
#pragma once

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

#include "policy/rule.h"

namespace limpid {

struct WrongRule {
  const char* text;
  const char* column;  ///< how the cause begins: "column 5: …"
  const char* remedy;  ///< somewhere in it
};

inline void expect_refused(std::initializer_list<WrongRule> wrong, const NamedSets& sets) {
  for (const auto& [text, column, remedy] : wrong) {
    const auto parsed = parse_rule(text, sets);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().kind, ErrorKind::usage) << text;
    EXPECT_TRUE(parsed.error().cause.starts_with(column)) << text << ": " << parsed.error().message();
    EXPECT_NE(parsed.error().remedy.find(remedy), std::string::npos) << text << ": " << parsed.error().message();
  }
}

}  // namespace limpid
