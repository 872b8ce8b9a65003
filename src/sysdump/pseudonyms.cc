// A text is cut into words of the characters that addresses and names are made of; each word is looked at alone, with what stands behind it.
#include "sysdump/pseudonyms.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/random.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/ascii.h"

namespace limpid {
namespace {

/// A range of addresses that stays one. Inside, addresses change, unless `whole`.
struct Range {
  std::array<std::uint8_t, 16> bytes;
  unsigned length;
  bool whole;  ///< nothing in it says anything about anybody
};

// RFC 6890's registries, as far as they matter to who reads a route or a rule.
constexpr std::array<Range, 8> kIpv4Ranges{{{{0}, 8, true},
                                            {{10}, 8, false},
                                            {{100, 64}, 10, false},
                                            {{127}, 8, true},
                                            {{169, 254}, 16, false},
                                            {{172, 16}, 12, false},
                                            {{192, 168}, 16, false},
                                            {{224}, 3, true}}};
constexpr std::array<Range, 6> kIpv6Ranges{{{{0}, 127, true},
                                            {{0x00, 0x64, 0xff, 0x9b}, 96, false},
                                            {{0x20}, 3, false},
                                            {{0xfc}, 7, false},
                                            {{0xfe, 0x80}, 64, false},
                                            {{0xff}, 8, true}}};

bool bit_of(const std::array<std::uint8_t, 16>& bytes, unsigned at) {
  return (unsigned{bytes.at(at / 8)} >> (7 - at % 8) & 1U) != 0;
}

bool share(const std::array<std::uint8_t, 16>& one, const std::array<std::uint8_t, 16>& other, unsigned bits) {
  for (unsigned at = 0; at < bits; ++at) {
    if (bit_of(one, at) != bit_of(other, at)) return false;
  }
  return true;
}

/// Whether the bit behind the first `length` ones decides between ranges, or lies in one that stays.
bool stays(std::span<const Range> ranges, const std::array<std::uint8_t, 16>& bytes, unsigned length) {
  return std::ranges::any_of(ranges, [&](const Range& range) {
    return (length < range.length && share(bytes, range.bytes, length)) ||
           (range.whole && length >= range.length && share(bytes, range.bytes, range.length));
  });
}

bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == ':' || c == '-' || c == '_';
}

bool is_hex(char c) {
  return std::isxdigit(static_cast<unsigned char>(c)) != 0;
}

std::vector<std::string_view> split(std::string_view text, char by) {
  std::vector<std::string_view> parts;
  for (;;) {
    const auto at = text.find(by);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

bool is_mac(std::string_view word) {
  const auto pairs = split(word, ':');
  return pairs.size() == 6 && std::ranges::all_of(pairs, [](std::string_view pair) {
           return pair.size() == 2 && is_hex(pair[0]) && is_hex(pair[1]);
         });
}

// What looks like a domain name and is a file, a unit or a setting.
constexpr std::array<std::string_view, 24> kNoDomains{
    "toml", "conf",  "service", "sock", "socket", "txt",    "log", "json", "gz",  "xz",   "mmdb", "ko",
    "scd",  "slice", "scope",   "list", "mount",  "target", "pid", "lock", "yml", "yaml", "path", "tar"};
constexpr std::array<std::string_view, 6> kSettings{"net.ipv4.", "net.ipv6.",   "net.core.",
                                                    "net.unix.", "net.bridge.", "net.netfilter."};

bool is_label(std::string_view label) {
  constexpr std::size_t kMostLabelBytes = 63;
  return !label.empty() && label.size() <= kMostLabelBytes && label.find(':') == std::string_view::npos;
}

bool is_domain(std::string_view word) {
  const auto labels = split(word, '.');
  if (labels.size() < 2 || !std::ranges::all_of(labels, is_label)) return false;
  const std::string last = ascii_lower(labels.back());
  const bool top =
      last.size() >= 2 &&
      (std::ranges::all_of(last, [](unsigned char c) { return std::isalpha(c) != 0; }) || last.starts_with("xn--"));
  return top && std::ranges::find(kNoDomains, last) == kNoDomains.end() &&
         std::ranges::none_of(kSettings, [&](std::string_view start) { return word.starts_with(start); });
}

/// So much is looked at for it: lines of JSON may be very long.
constexpr std::size_t kContextBytes = 256;

/// Whether a word that begins behind `before` is a name because of its place: the host of a URL, where `target(…)` leads, or the name of a flow in the access log.
bool names_a_host(std::string_view before) {
  const std::string_view line = before.substr(before.rfind('\n') + 1);  // npos + 1 is 0
  if (line.ends_with("://") || line.ends_with("target(")) return true;
  if (line.ends_with('@')) {  // behind a user
    const auto url = line.rfind("://");
    return url != std::string_view::npos && line.substr(url).find_first_of(" \t\"'") == std::string_view::npos;
  }
  return line.ends_with(" name=") && line.find(" app=") != std::string_view::npos;
}

/// Of ours, in URLs: they say nothing about anybody.
constexpr std::array<std::string_view, 3> kNobodys{"localhost", "limpid", "unix"};

std::optional<unsigned> prefix_length(std::string_view behind) {
  if (!behind.starts_with('/')) return std::nullopt;
  unsigned length = 0;
  const auto [end, error] = std::from_chars(behind.data() + 1, behind.data() + behind.size(), length);
  return error == std::errc{} ? std::optional(length) : std::nullopt;
}

}  // namespace

Result<Pseudonyms> Pseudonyms::make() {
  Key key{};
  if (getrandom(key.data(), key.size(), 0) != static_cast<ssize_t>(key.size()))
    return system_error(errno, "get", "a random key");
  return Pseudonyms(key);
}

std::array<std::uint8_t, 32> Pseudonyms::keyed(std::string_view message) const {
  std::array<std::uint8_t, 32> digest{};
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): libcrypto's bytes
  const auto* const bytes = reinterpret_cast<const unsigned char*>(message.data());
  HMAC(EVP_sha256(), key_.data(), static_cast<int>(key_.size()), bytes, message.size(), digest.data(), nullptr);
  return digest;
}

IpAddress Pseudonyms::of(const IpAddress& address) {
  if (const auto found = known_.find(address); found != known_.end()) return found->second;
  const bool ipv4 = address.family() == Family::ipv4;
  auto bytes = address.bytes();
  std::array<std::uint8_t, 16> before{};  // its first `at` bits, and zeros
  for (unsigned at = 0; at < address.bits(); ++at) {
    const bool kept = ipv4 ? stays(kIpv4Ranges, before, at) : stays(kIpv6Ranges, before, at);
    const bool bit = bit_of(address.bytes(), at);
    const auto mask = static_cast<std::uint8_t>(0x80U >> (at % 8));
    if (!kept) {
      std::string message{ipv4 ? '4' : '6', static_cast<char>(at)};
      message.append(before.begin(), before.end());
      if ((keyed(message)[0] & 1U) != 0) bytes.at(at / 8) ^= mask;
    }
    if (bit) before.at(at / 8) |= mask;
  }
  const auto made = IpAddress::from_bytes(address.family(), bytes);
  known_.emplace(address, made);
  return made;
}

std::string Pseudonyms::of_name(std::string_view name) const {
  std::string made;
  const std::string small = ascii_lower(name);
  std::string_view rest = small;
  for (;;) {
    const auto dot = rest.find('.');
    // The last of several says only which country or kind.
    if (dot == std::string_view::npos && !made.empty()) return made + std::string(rest);
    const auto digest = keyed(fmt::format("n{}", rest));
    made += fmt::format("n{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]);
    if (dot == std::string_view::npos) return made;
    made += '.';
    rest.remove_prefix(dot + 1);
  }
}

std::string Pseudonyms::of_mac(std::string_view mac) const {
  std::string small = ascii_lower(mac);
  if (small == "00:00:00:00:00:00" || small == "ff:ff:ff:ff:ff:ff") return small;
  const auto digest = keyed(fmt::format("m{}", small));
  return fmt::format("02:00:00:{:02x}:{:02x}:{:02x}", digest[0], digest[1], digest[2]);
}

void Pseudonyms::learn(std::string_view name) {
  if (!name.empty() && std::ranges::all_of(name, is_word)) learnt_.insert(ascii_lower(name));
}

/// A network stays one: where there was nothing behind its length, there is nothing.
std::string Pseudonyms::of_network(const IpAddress& address, std::string_view behind) {
  const IpAddress plain = address.unmapped();
  if (plain.family() != address.family()) return "::ffff:" + of(plain).to_string();
  const IpAddress made = of(address);
  const auto length = prefix_length(behind);
  if (!length || *length >= address.bits()) return made.to_string();
  auto bytes = made.bytes();
  for (unsigned at = *length; at < address.bits(); ++at) {
    if (bit_of(address.bytes(), at)) return made.to_string();
    bytes.at(at / 8) &= static_cast<std::uint8_t>(~(0x80U >> (at % 8)));
  }
  return IpAddress::from_bytes(address.family(), bytes).to_string();
}

/// The longest address or MAC that begins at `at`, and does so for whoever reads it; 0: none.
std::size_t Pseudonyms::address_at(std::string_view word, std::size_t at) {
  constexpr std::size_t kLongest = 45;  // INET6_ADDRSTRLEN
  const auto is_alnum = [&](std::size_t place) {
    return place < word.size() && std::isalnum(static_cast<unsigned char>(word[place])) != 0;
  };
  if (at > 0 && (word[at - 1] == '.' || std::isdigit(static_cast<unsigned char>(word[at - 1])) != 0)) return 0;
  for (std::size_t length = std::min(kLongest, word.size() - at); length >= 2; --length) {
    if (is_alnum(at + length)) continue;
    const auto part = word.substr(at, length);
    if (is_mac(part) || IpAddress::parse(part)) return length;
  }
  return 0;
}

/// "d192.0.2.1:80", "NAME:PORT", "192.0.2.1-192.0.2.9:80", "suffix:example.org".
std::string Pseudonyms::of_parts(std::string_view word, std::string_view behind) {
  std::string made;
  for (std::size_t at = 0; at < word.size();) {
    if (const auto length = address_at(word, at); length > 0) {
      const auto part = word.substr(at, length);
      at += length;
      made += is_mac(part) ? of_mac(part) : of_network(*IpAddress::parse(part), at == word.size() ? behind : "");
      continue;
    }
    const auto piece = word.substr(at, std::min(word.find(':', at), word.size()) - at);
    const bool begins = at == 0 || word[at - 1] == ':';
    if (begins && (learnt_.contains(ascii_lower(piece)) || is_domain(piece))) {
      made += of_name(piece);
      at += piece.size();
    } else {
      made += word[at++];
    }
  }
  return made;
}

/// A host with a port, perhaps. What can be told apart otherwise is.
std::string Pseudonyms::of_host(std::string_view word, std::string_view behind) {
  const auto colon = word.find(':');
  const auto host = word.substr(0, colon);
  const bool plain = !host.empty() && host.find_first_not_of("0123456789.-_") != std::string_view::npos &&
                     (colon == std::string_view::npos || word.find(':', colon + 1) == std::string_view::npos);
  if (!plain || IpAddress::parse(word) || std::ranges::find(kNobodys, host) != kNobodys.end())
    return of_word(word, behind);
  return of_name(host) + std::string(word.substr(host.size()));
}

std::string Pseudonyms::of_word(std::string_view word, std::string_view behind) {
  constexpr std::string_view kPunctuation = ".:-_";
  // "2001:db8::" ends with its colons, and "::1" begins with them.
  if (const auto address = IpAddress::parse(word)) return of_network(*address, behind);
  const auto begin = word.find_first_not_of(kPunctuation);
  if (begin == std::string_view::npos) return std::string(word);
  const auto end = word.find_last_not_of(kPunctuation) + 1;
  if (begin > 0 || end < word.size()) {
    const auto rest = word.substr(end);
    return std::string(word.substr(0, begin)) + of_word(word.substr(begin, end - begin), rest.empty() ? behind : rest) +
           std::string(rest);
  }
  if (is_mac(word)) return of_mac(word);
  if (learnt_.contains(ascii_lower(word)) || is_domain(word)) return of_name(word);
  return word.find_first_of(".:") == std::string_view::npos ? std::string(word) : of_parts(word, behind);
}

std::string Pseudonyms::apply(std::string_view text) {
  constexpr std::string_view kDomain = "domain(";
  std::string made;
  made.reserve(text.size());
  std::size_t depth = 0;  // of parentheses, in domain(…)
  bool opens = false;     // the first of them is still to come
  for (std::size_t at = 0; at < text.size();) {
    if (!is_word(text[at])) {
      if (depth > 0 && text[at] == '(' && !std::exchange(opens, false)) ++depth;
      if (depth > 0 && text[at] == ')') --depth;
      made += text[at++];
      continue;
    }
    std::size_t end = at;
    while (end < text.size() && is_word(text[end])) ++end;
    const std::string_view word = text.substr(at, end - at);
    // "suffix:" and its like stay; what they are about does not.
    if (depth > 0 && !word.ends_with(':')) {
      made += of_name(word);
    } else {
      const auto before = text.substr(at - std::min(at, kContextBytes), std::min(at, kContextBytes));
      const auto behind = text.substr(end, 4);
      made += names_a_host(before) ? of_host(word, behind) : of_word(word, behind);
    }
    if (depth == 0 && text.substr(at).starts_with(kDomain)) {
      depth = 1;
      opens = true;
    }
    at = end;
  }
  return made;
}

}  // namespace limpid
