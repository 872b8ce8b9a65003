// By the shape of the text: whatever stands where a URL has its password.
#include "config/redaction.h"

#include <fmt/format.h>

#include <cstdint>

namespace limpid {
namespace {

/// FNV-1a, folded: so short that it fits every 65,536th guess.
std::uint16_t fingerprint(std::string_view text) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return static_cast<std::uint16_t>(hash ^ (hash >> 16U) ^ (hash >> 32U) ^ (hash >> 48U));
}

std::string hidden(std::string_view secret) {
  return fmt::format("***-{:04x}", fingerprint(secret));
}

}  // namespace

std::string without_secrets(std::string_view setting, std::string_view value) {
  if (setting.ends_with("password")) return hidden(value);
  const auto scheme = value.find("://");
  if (scheme == std::string_view::npos) return std::string(value);
  const auto start = scheme + 3;
  const auto at = value.rfind('@');  // rather too much than a part of a password
  if (at == std::string_view::npos || at < start) return std::string(value);
  const std::string_view user = value.substr(start, at - start);
  const auto colon = user.find(':');
  if (colon == std::string_view::npos) return std::string(value);
  return fmt::format("{}{}:{}{}", value.substr(0, start), user.substr(0, colon), hidden(user.substr(colon + 1)),
                     value.substr(at));
}

}  // namespace limpid
