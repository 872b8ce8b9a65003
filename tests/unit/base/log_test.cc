// Log lines: no value may leave its field, its line or its terminal, in logfmt or in JSON.
#include "base/log.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <string>

namespace limpid {
namespace {

using namespace std::string_literals;

std::string logfmt(std::string_view value) {
  std::string line;
  append_field(line, field("key", value), LogFormat::logfmt);
  return line;
}
std::string json(std::string_view value) {
  std::string line;
  append_field(line, field("key", value), LogFormat::json);
  return line + '}';
}

TEST(AppendField, plain_values_stand_bare_in_logfmt) {
  for (const auto* value : {"a", "192.0.2.1:80", "[2001:db8::1]:443", "address+port", "a,b;c", "100%", "~"}) {
    EXPECT_EQ(logfmt(value), "key="s + value);
  }
}

TEST(AppendField, what_could_be_misread_is_quoted_in_logfmt) {
  EXPECT_EQ(logfmt(""), R"(key="")");
  EXPECT_EQ(logfmt("two words"), R"(key="two words")");
  EXPECT_EQ(logfmt("a=b"), R"(key="a=b")");
  EXPECT_EQ(logfmt(R"(say "hi")"), R"(key="say \"hi\"")");
  EXPECT_EQ(logfmt(R"(back\slash)"), R"(key="back\\slash")");
  EXPECT_EQ(logfmt("grün"), R"(key="grün")");
}

TEST(AppendField, a_value_cannot_start_a_line_or_a_terminal_escape) {
  EXPECT_EQ(logfmt("a\nlevel=error"), R"(key="a\u000alevel=error")");
  EXPECT_EQ(logfmt("a\r\t\x1b[2J"), R"(key="a\u000d\u0009\u001b[2J")");
  EXPECT_EQ(logfmt("\x7f"), R"(key="\u007f")");
  EXPECT_EQ(logfmt("nul\0after"s), R"(key="nul\u0000after")");
  EXPECT_EQ(logfmt("\xc2\x9b"
                   "31m"),
            R"(key="\u009b31m")")
      << "U+009B is the eight-bit form of ESC [";
  EXPECT_EQ(logfmt("\xc2\x80\xc2\x9f"), R"(key="\u0080\u009f")");
}

TEST(AppendField, text_cannot_turn_the_line_round) {
  EXPECT_EQ(logfmt("\u202egnp.exe"), R"(key="\u202egnp.exe")") << "right-to-left override";
  EXPECT_EQ(logfmt("\u2066\u2069\u200f"), R"(key="\u2066\u2069\u200f")");
  EXPECT_EQ(logfmt("\u2028\u2029"), R"(key="\u2028\u2029")") << "line separators";
}

TEST(AppendField, bytes_that_are_not_utf8_are_shown_by_value) {
  EXPECT_EQ(logfmt("\xff\xfe"), R"(key="\u00ff\u00fe")");
  EXPECT_EQ(logfmt("\x80"), R"(key="\u0080")") << "a continuation byte alone";
  EXPECT_EQ(logfmt("a\xc3"), R"(key="a\u00c3")") << "cut off in the middle";
  EXPECT_EQ(logfmt("\xe2\x82"
                   "x"),
            R"(key="\u00e2\u0082x")");
  EXPECT_EQ(logfmt("\xc0\xaf"), R"(key="\u00c0\u00af")") << "overlong '/'";
  EXPECT_EQ(logfmt("\xe0\x80\xaf"), R"(key="\u00e0\u0080\u00af")") << "overlong '/'";
  EXPECT_EQ(logfmt("\xed\xa0\x80"), R"(key="\u00ed\u00a0\u0080")") << "a surrogate";
  EXPECT_EQ(logfmt("\xf4\x90\x80\x80"), R"(key="\u00f4\u0090\u0080\u0080")") << "past U+10FFFF";
}

TEST(AppendField, well_formed_utf8_of_every_length_is_kept) {
  for (const auto* text : {"\u00a0", "\u07ff", "\u0800", "\ud7ff", "\uffff", "\U00010000", "\U0010ffff", "\u20ac"}) {
    EXPECT_EQ(logfmt(text), "key=\""s + text + '"');
  }
}

TEST(AppendField, json_escapes_the_same_way) {
  EXPECT_EQ(json("plain"), R"({"key":"plain"})");
  EXPECT_EQ(json(""), R"({"key":""})");
  EXPECT_EQ(json("a\"},{\"b\\"), R"({"key":"a\"},{\"b\\"})");
  EXPECT_EQ(json("\x1b\n\xff"), R"({"key":"\u001b\u000a\u00ff"})");
}

TEST(AppendField, numbers_are_numbers_in_json) {
  std::string line;
  append_field(line, field("bytes", std::uint64_t{18446744073709551615U}), LogFormat::json);
  append_field(line, field("name", "7"), LogFormat::json);
  EXPECT_EQ(line + '}', R"({"bytes":18446744073709551615,"name":"7"})");
}

TEST(AppendField, fields_are_separated) {
  std::string line;
  append_field(line, field("a", "1"), LogFormat::logfmt);
  append_field(line, field("b", std::uint64_t{2}), LogFormat::logfmt);
  EXPECT_EQ(line, "a=1 b=2");
}

TEST(FormatTimestamp, is_utc_with_milliseconds) {
  EXPECT_EQ(format_timestamp(0), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(format_timestamp(1'769'860'800'123'999), "2026-01-31T12:00:00.123Z");
  EXPECT_EQ(format_timestamp(951'782'399'999'000), "2000-02-28T23:59:59.999Z");
}

// Whether journald reads is decided when the logger is made, by the environment: each test sets it for itself.
class LoggerOutput : public testing::Test {
 protected:
  void SetUp() override { unsetenv("JOURNAL_STREAM"); }
  void TearDown() override { unsetenv("JOURNAL_STREAM"); }

  static std::string written(const Logger::Options& options) {
    testing::internal::CaptureStderr();
    const Logger logger(options);
    logger.debug("details");
    logger.info("hello world", {field("port", std::uint64_t{80})});
    logger.warning("careful");
    logger.error("broken");
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(LoggerOutput, writes_one_logfmt_line_per_message) {
  const auto text = written({.level = LogLevel::debug, .format = LogFormat::logfmt});
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 4);
  EXPECT_TRUE(text.starts_with("ts=")) << text;
  EXPECT_NE(text.find(R"( level=info msg="hello world" port=80)"), std::string::npos) << text;
}

TEST_F(LoggerOutput, leaves_out_what_is_below_its_level) {
  const auto text = written({.level = LogLevel::warning, .format = LogFormat::logfmt});
  EXPECT_EQ(text.find("details"), std::string::npos);
  EXPECT_EQ(text.find("hello"), std::string::npos);
  EXPECT_NE(text.find("careful"), std::string::npos);
  EXPECT_NE(text.find("broken"), std::string::npos);
}

TEST_F(LoggerOutput, writes_json_objects) {
  const auto text = written({.level = LogLevel::info, .format = LogFormat::json});
  EXPECT_TRUE(text.starts_with(R"({"ts":")")) << text;
  EXPECT_NE(text.find(R"("level":"info","msg":"hello world","port":80})"), std::string::npos) << text;
}

TEST_F(LoggerOutput, gives_journald_priorities) {
  setenv("JOURNAL_STREAM", "8:12345", 1);
  const auto text = written({.level = LogLevel::debug, .format = LogFormat::logfmt});
  for (const auto* priority : {"<7>ts=", "\n<6>ts=", "\n<4>ts=", "\n<3>ts="})
    EXPECT_NE(text.find(priority), std::string::npos) << priority;
}

TEST_F(LoggerOutput, a_format_string_in_a_message_is_only_text) {
  testing::internal::CaptureStderr();
  const Logger logger({});
  logger.info("{} %s %v", {field("name", "{:d} %n")});
  EXPECT_NE(testing::internal::GetCapturedStderr().find(R"(msg="{} %s %v" name="{:d} %n")"), std::string::npos);
}

}  // namespace
}  // namespace limpid
