// Rather too much than too little: what is hidden by mistake is missed less than what is shown by mistake.
#include "sysdump/secrets.h"

#include <algorithm>
#include <array>

#include "base/ascii.h"

namespace limpid {
namespace {

constexpr std::string_view kHidden = "***";
constexpr std::array<std::string_view, 9> kSecretKeys{"password", "passwd",  "passphrase",    "secret", "token",
                                                      "psk",      "api-key", "authorization", "cookie"};
constexpr std::string_view kPemBegin = "-----BEGIN ";
constexpr std::string_view kPemEnd = "-----END ";

bool starts_with_word(std::string_view text, std::string_view word) {
  return text.size() >= word.size() && std::equal(word.begin(), word.end(), text.begin(), [](char one, char other) {
           const char small = ascii_lower(other);
           return one == small || (one == '-' && small == '_');
         });
}

/// Of `key = "value"`, `key: value`, `"key": "value"` and `key=value` behind the key: how far it is to the value; 0: none follows.
std::size_t to_value(std::string_view behind) {
  std::size_t at = 0;
  const auto skip = [&](std::string_view of) {
    while (at < behind.size() && of.find(behind[at]) != std::string_view::npos) ++at;
  };
  if (behind.starts_with('s') || behind.starts_with('S')) ++at;  // several of them
  skip("\"' \t");
  if (at >= behind.size() || (behind[at] != '=' && behind[at] != ':')) return 0;
  ++at;
  skip(" \t");
  return at;
}

/// Of `--password VALUE`, and of such a flag in a list of words (`"--token", "VALUE"`), behind the flag: how far it is to the value; 0: it has none.
std::size_t to_next_word(std::string_view behind) {
  constexpr std::string_view kBetween = " \t\"',";
  const auto value = behind.find_first_not_of(kBetween);
  if (value == 0 || value == std::string_view::npos || behind[value] == '\n') return 0;
  return behind.substr(value).starts_with("--") ? 0 : value;
}

/// Whether a key that begins behind `before` is the last part of a flag's name.
bool is_in_flag(std::string_view before) {
  const auto word = before.find_last_of(" \t\r\n\"',=[(");
  return before.substr(word + 1).starts_with("--");  // npos + 1 is 0
}

/// A list of values, up to its closing bracket, be it in other lines.
std::size_t length_of_list(std::string_view text) {
  char quote = 0;
  for (std::size_t at = 1; at < text.size(); ++at) {
    if (quote != 0 && text[at] == '\\') {
      ++at;
    } else if (quote != 0) {
      if (text[at] == quote) quote = 0;
    } else if (text[at] == '"' || text[at] == '\'') {
      quote = text[at];
    } else if (text[at] == ']') {
      return at + 1;
    }
  }
  return text.size();
}

/// A quoted text with its quotes, or all up to the end of the line.
std::size_t length_of_value(std::string_view text) {
  if (text.empty()) return 0;
  const char quote = text[0];
  if (quote != '"' && quote != '\'') return std::min(text.find('\n'), text.size());
  const std::string triple(3, quote);
  if (text.starts_with(triple)) {
    const auto end = text.find(triple, 3);
    return end == std::string_view::npos ? text.size() : end + 3;
  }
  for (std::size_t at = 1; at < text.size(); ++at) {
    if (text[at] == '\\' && quote == '"') {
      ++at;
    } else if (text[at] == quote) {
      return at + 1;
    }
  }
  return text.size();
}

/// Behind "://": how long the user with his password is, without the @; 0: none.
std::size_t length_of_user(std::string_view behind) {
  const auto end = std::min(behind.find_first_of(" \t\r\n\"'`<>"), behind.find("://"));
  const auto at = behind.substr(0, end).rfind('@');
  return at == std::string_view::npos ? 0 : at;
}

}  // namespace

std::string hide_secrets(std::string_view text) {
  std::string made;
  made.reserve(text.size());
  std::size_t at = 0;
  while (at < text.size()) {
    const std::string_view rest = text.substr(at);
    if (rest.starts_with(kPemBegin)) {
      const auto end = rest.find(kPemEnd);
      made += kPemBegin;
      made += kHidden;
      at = end == std::string_view::npos ? text.size() : at + end;
      continue;
    }
    if (rest.starts_with("://")) {
      made += "://";
      at += 3;
      if (const auto length = length_of_user(text.substr(at)); length > 0) {
        made += kHidden;
        at += length;
      }
      continue;
    }
    const auto* const key =
        std::ranges::find_if(kSecretKeys, [&](std::string_view word) { return starts_with_word(rest, word); });
    if (key == kSecretKeys.end()) {
      made += text[at++];
      continue;
    }
    made += rest.substr(0, key->size());
    at += key->size();
    if (const auto distance = to_value(text.substr(at)); distance > 0) {
      made += text.substr(at, distance);
      at += distance;
    } else if (const auto next = is_in_flag(made) ? to_next_word(text.substr(at)) : 0; next > 0) {
      made += text.substr(at, next);
      at += next;
      made += kHidden;
      at += std::min(text.substr(at).find_first_of(" \t\r\n\"'"), text.size() - at);
      continue;
    } else {
      continue;
    }
    if (at < text.size() && text[at] == '[') {
      made += "[\"***\"]";
      at += length_of_list(text.substr(at));
      continue;
    }
    const auto length = length_of_value(text.substr(at));
    const bool quoted = length > 0 && (text[at] == '"' || text[at] == '\'');
    if (length > 0) made += quoted ? "\"***\"" : kHidden;
    at += length;
  }
  return made;
}

}  // namespace limpid
