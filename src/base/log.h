// Messages for the operator: logfmt or JSON lines on stderr, with sd-daemon(3) priorities when journald reads it.
// Access log lines are formatted here as well, but written elsewhere (service/access_log).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace spdlog {
class logger;
}

namespace limpid {

enum class LogLevel : std::uint8_t { debug, info, warning, error };
/// "debug", "info", "warning", "error".
[[nodiscard]] std::string_view to_string(LogLevel level) noexcept;
[[nodiscard]] std::optional<LogLevel> parse_log_level(std::string_view text) noexcept;
enum class LogFormat : std::uint8_t { logfmt, json };

/// One `key=value` of a line. Numbers are passed as text by field(); `quoted` says whether JSON shows it as a string.
struct Field {
  std::string_view key;
  std::string value;
  bool quoted = true;
};

[[nodiscard]] Field field(std::string_view key, std::string_view value);
[[nodiscard]] Field field(std::string_view key, std::uint64_t value);

/// Appends one field to a line that is being built. Control characters, quotes and bytes that are not UTF-8 are
/// escaped, so that no value can start a new line or a terminal escape.
void append_field(std::string& line, const Field& field, LogFormat format);

/// "2026-01-31T12:00:00.123Z" for microseconds since the epoch.
[[nodiscard]] std::string format_timestamp(std::int64_t microseconds_since_epoch);

/// Safe to use from several threads.
class Logger {
 public:
  struct Options {
    LogLevel level = LogLevel::info;
    LogFormat format = LogFormat::logfmt;
  };
  explicit Logger(const Options& options);
  ~Logger();
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;
  Logger(Logger&&) = delete;
  Logger& operator=(Logger&&) = delete;

  /// From now on, for all threads.
  void set_level(LogLevel level) noexcept { level_.store(level, std::memory_order_relaxed); }
  [[nodiscard]] LogLevel level() const noexcept { return level_.load(std::memory_order_relaxed); }
  void write(LogLevel level, std::string_view message, const std::vector<Field>& fields = {}) const;
  void debug(std::string_view message, const std::vector<Field>& fields = {}) const {
    write(LogLevel::debug, message, fields);
  }
  void info(std::string_view message, const std::vector<Field>& fields = {}) const {
    write(LogLevel::info, message, fields);
  }
  void warning(std::string_view message, const std::vector<Field>& fields = {}) const {
    write(LogLevel::warning, message, fields);
  }
  void error(std::string_view message, const std::vector<Field>& fields = {}) const {
    write(LogLevel::error, message, fields);
  }

 private:
  std::atomic<LogLevel> level_;
  LogFormat format_;
  bool journald_;
  std::shared_ptr<spdlog::logger> sink_;
};

}  // namespace limpid
