// for_terminal(): what others' text may not do to a terminal.
#include "base/terminal_text.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

TEST(TerminalText, what_can_be_read_stays) {
  EXPECT_EQ(for_terminal("TCP 10.0.0.1:80 → größer … 日本 🙂"), "TCP 10.0.0.1:80 → größer … 日本 🙂");
}

TEST(TerminalText, no_escape_sequence_gets_through) {
  EXPECT_EQ(for_terminal("a\x1b[2Jb\x7f\r\n\t"), "a?[2Jb????");
  EXPECT_EQ(for_terminal("a\xc2\x9b"
                         "2J"),
            "a?2J")
      << "U+009B is ESC [";
  EXPECT_EQ(for_terminal("a\x9b"
                         "2J\x90"),
            "a?2J?")
      << "8-bit controls";
}

TEST(TerminalText, nothing_turns_the_direction_or_hides) {
  EXPECT_EQ(for_terminal("a\u202eb\u2066c\u200bd\u061ce\u2028"), "a?b?c?d?e?");
}

TEST(TerminalText, what_is_no_utf8_is_shown_as_such) {
  EXPECT_EQ(for_terminal("\xff\xc3 \xe2\x80"), "?? ??");
}

}  // namespace
}  // namespace limpid
