// Reading with a bound, and the positions of errors.
#include "config/toml_file.h"

#include <fmt/format.h>

#include <cerrno>
#include <fstream>
#include <string>
#include <system_error>

namespace limpid {

Place place_of(const std::filesystem::path& path, const toml::source_region& region) {
  return {.file = path.string(), .line = region.begin.line};
}

Error wrong_at(const Place& place, std::string_view field, std::string_view cause, std::string_view remedy) {
  return {.kind = ErrorKind::usage,
          .code = 0,
          .operation = place.to_string(),
          .object = std::string(field),
          .cause = std::string(cause),
          .remedy = std::string(remedy)};
}

std::expected<toml::table, Error> read_toml(const std::filesystem::path& path) {
  std::error_code code;
  if (const auto size = std::filesystem::file_size(path, code); !code && size > kLargestTomlBytes)
    return std::unexpected(wrong_at({.file = path.string()}, "", "it is larger than 4 MiB",
                                    "put long lists into files of their own: set = { file = \"…\" }"));
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path, code)) {
    const int reason = std::filesystem::is_directory(path, code) ? EISDIR : errno;
    return std::unexpected(
        system_error(reason, "read", path.string(), reason == ENOENT ? "name another with -c FILE" : "").error());
  }
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (text.size() > kLargestTomlBytes)
    return std::unexpected(wrong_at({.file = path.string()}, "", "it is larger than 4 MiB", ""));
  try {
    return toml::parse(text, path.string());
  } catch (const toml::parse_error& error) {
    return std::unexpected(wrong_at(place_of(path, error.source()), "",
                                    fmt::format("not TOML: {}", error.description()), "see https://toml.io"));
  }
}

}  // namespace limpid
