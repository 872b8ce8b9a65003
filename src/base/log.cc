// Formats and writes messages. Escaping is done here once, for logs and for the access log alike.
#include "base/log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <chrono>
#include <cstdlib>

#include "base/terminal_text.h"

namespace limpid {
namespace {

/// sd-daemon(3): journald takes "<N>" at the start of a line as its syslog priority.
std::string_view journald_priority(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return "<7>";
    case LogLevel::info: return "<6>";
    case LogLevel::warning: return "<4>";
    case LogLevel::error: return "<3>";
  }
  return "";
}

/// Appends `text` so that it stays inside its quotes, its line and its terminal. C1 controls (U+0080…U+009F) and the
/// Unicode line separators and bidirectional controls count as controls too.
void append_escaped(std::string& line, std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const auto first = static_cast<unsigned char>(text.front());
    const std::string_view sequence = text.substr(0, length == 0 ? 1 : length);
    const bool c1 = length == 2 && first == 0xc2 && static_cast<unsigned char>(sequence[1]) < 0xa0;
    const bool format_control =
        length == 3 && first == 0xe2 &&
        (static_cast<unsigned char>(sequence[1]) == 0x80 || static_cast<unsigned char>(sequence[1]) == 0x81);
    if (first == '"' || first == '\\') {
      line += '\\';
      line += static_cast<char>(first);
    } else if (length == 0 || first < 0x20 || first == 0x7f) {
      // A stray byte is shown by its value; JSON knows only \u, and logfmt readers understand it as well.
      fmt::format_to(std::back_inserter(line), "\\u{:04x}", first);
    } else if (sequence == "\xd8\x9c") {  // U+061C, a bidirectional control as well
      line += "\\u061c";
    } else if (c1) {
      fmt::format_to(std::back_inserter(line), "\\u{:04x}", static_cast<unsigned char>(sequence[1]));
    } else if (format_control) {
      const unsigned code = 0x2000U | ((static_cast<unsigned char>(sequence[1]) & 0x3fU) << 6U) |
                            (static_cast<unsigned char>(sequence[2]) & 0x3fU);
      fmt::format_to(std::back_inserter(line), "\\u{:04x}", code);
    } else {
      line += sequence;
    }
    text.remove_prefix(sequence.size());
  }
}

bool is_bare_logfmt_value(std::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    const bool plain = c > ' ' && c < 0x7f && c != '"' && c != '=' && c != '\\';
    if (!plain) return false;
  }
  return true;
}

}  // namespace

std::string_view to_string(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::debug: return "debug";
    case LogLevel::info: return "info";
    case LogLevel::warning: return "warning";
    case LogLevel::error: return "error";
  }
  return "";
}

std::optional<LogLevel> parse_log_level(std::string_view text) noexcept {
  for (const LogLevel level : {LogLevel::debug, LogLevel::info, LogLevel::warning, LogLevel::error}) {
    if (text == to_string(level)) return level;
  }
  return std::nullopt;
}

Field field(std::string_view key, std::string_view value) {
  return {key, std::string(value), true};
}
Field field(std::string_view key, std::uint64_t value) {
  return {key, fmt::to_string(value), false};
}

void append_field(std::string& line, const Field& field, LogFormat format) {
  if (format == LogFormat::json) {
    line += line.empty() ? "{\"" : ",\"";
    line += field.key;
    line += field.quoted ? "\":\"" : "\":";
    append_escaped(line, field.value);
    if (field.quoted) line += '"';
    return;
  }
  if (!line.empty()) line += ' ';
  line += field.key;
  line += '=';
  if (is_bare_logfmt_value(field.value)) {
    line += field.value;
    return;
  }
  line += '"';
  append_escaped(line, field.value);
  line += '"';
}

std::string format_timestamp(std::int64_t microseconds_since_epoch) {
  const auto seconds = microseconds_since_epoch / 1'000'000;
  const auto milliseconds = microseconds_since_epoch / 1'000 % 1'000;
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(seconds)), milliseconds);
}

Logger::Logger(const Options& options)
    : level_(options.level),
      format_(options.format),
      // systemd sets it for units whose stderr is the journal (systemd.exec(5)).
      // NOLINTNEXTLINE(concurrency-mt-unsafe): before any thread of ours, and nothing here changes the environment
      journald_(std::getenv("JOURNAL_STREAM") != nullptr),
      sink_(std::make_shared<spdlog::logger>("limpid", std::make_shared<spdlog::sinks::stderr_sink_mt>())) {
  sink_->set_pattern("%v");
  sink_->set_level(spdlog::level::trace);
}

Logger::~Logger() = default;

void Logger::write(LogLevel level, std::string_view message, const std::vector<Field>& fields) const {
  if (level < this->level()) return;
  std::string line;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto timestamp = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
  append_field(line, field("ts", format_timestamp(timestamp)), format_);
  append_field(line, field("level", to_string(level)), format_);
  append_field(line, field("msg", message), format_);
  for (const auto& each : fields) append_field(line, each, format_);
  if (format_ == LogFormat::json) line += '}';
  if (journald_) line.insert(0, journald_priority(level));
  sink_->log(spdlog::level::info, line);
  sink_->flush();
}

}  // namespace limpid
