// append_field: no value leaves its field, its line or its terminal, and JSON stays JSON.
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "base/log.h"
#include "tests/fuzz/property.h"

namespace {

/// What follows `prefix` in a logfmt line is one token: bare, or quoted with every quote inside escaped.
bool is_one_token(std::string_view value) {
  if (value.empty()) return false;
  if (value.front() != '"') return value.find_first_of(" \"=\\") == std::string_view::npos;
  for (std::size_t index = 1; index < value.size(); ++index) {
    if (value[index] == '\\') {
      ++index;
    } else if (value[index] == '"') {
      return index + 1 == value.size();
    }
  }
  return false;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = limpid::fuzz::as_text(data, size);
  std::string logfmt;
  limpid::append_field(logfmt, limpid::field("key", text), limpid::LogFormat::logfmt);
  std::string json;
  limpid::append_field(json, limpid::field("key", text), limpid::LogFormat::json);
  json += '}';
  for (const auto& line : {logfmt, json}) {
    for (const char c : line) {
      limpid::fuzz::check(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f, "no control character gets through");
    }
  }
  limpid::fuzz::check(logfmt.starts_with("key=") && is_one_token(std::string_view(logfmt).substr(4)),
                      "one field stays one field");

  const auto parsed = nlohmann::json::parse(json, nullptr, false);
  limpid::fuzz::check(!parsed.is_discarded() && parsed.is_object() && parsed.size() == 1 && parsed.contains("key"),
                      "JSON with one member");
  const auto as_json_text =
      nlohmann::json(std::string(text)).dump(-1, ' ', false, nlohmann::json::error_handler_t::ignore);
  // Where the input was UTF-8 already, a reader gets back exactly what was logged.
  if (nlohmann::json::parse(as_json_text, nullptr, false) == nlohmann::json(std::string(text))) {
    limpid::fuzz::check(parsed["key"] == std::string(text), "valid text is logged unchanged");
  }
  return 0;
}
