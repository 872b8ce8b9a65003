// Hashes run from the last byte to the first, so that one pass over a name meets the hash of each of its suffixes.
#include "policy/domain_set.h"

#include <fmt/format.h>
#include <re2/re2.h>
#include <re2/set.h>

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "base/ascii.h"

namespace limpid {
namespace {

constexpr std::size_t kLongestName = 253;  // RFC 1035, 2.3.4, without the last dot
constexpr std::size_t kLongestLabel = 63;
constexpr std::size_t kLongestPattern = 512;
constexpr std::size_t kHead = 2;
constexpr char kExact = 1;
constexpr char kBelow = 2;

/// FNV-1a with a last mix: neighbours in the table must not be neighbours in the alphabet.
constexpr std::uint64_t kHashStart = 0xcbf2'9ce4'8422'2325;
constexpr std::uint64_t add_byte(std::uint64_t hash, char byte) noexcept {
  return (hash ^ static_cast<unsigned char>(byte)) * 0x100'0000'01b3;
}
constexpr std::uint64_t mixed(std::uint64_t hash) noexcept {
  hash ^= hash >> 32U;
  hash *= 0x9e37'79b9'7f4a'7c15;
  return hash ^ hash >> 29U;
}

std::uint64_t hash_of(std::string_view name) noexcept {
  std::uint64_t hash = kHashStart;
  for (std::size_t at = name.size(); at-- > 0;) hash = add_byte(hash, name[at]);
  return mixed(hash);
}

bool is_name_byte(char c) noexcept {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/// Why it is not a name; nullptr: it is one.
const char* flaw_of(std::string_view name) noexcept {
  if (name.empty()) return "it is empty";
  if (name.size() > kLongestName) return "it is longer than 253 bytes";
  std::size_t label = 0;
  for (const char c : name) {
    if (c == '.') {
      if (label == 0) return "it has an empty label";
      label = 0;
    } else if (!is_name_byte(c)) {
      return static_cast<signed char>(c) < 0 ? "it is not in ASCII: write it as xn--…"
                                             : "only letters, digits, -, _ and dots make a name";
    } else if (++label > kLongestLabel) {
      return "a label is longer than 63 bytes";
    }
  }
  return label == 0 ? "it has an empty label" : nullptr;
}

}  // namespace

std::string_view to_string(DomainMatch match) noexcept {
  switch (match) {
    case DomainMatch::exact: return "exact";
    case DomainMatch::suffix: return "suffix";
    case DomainMatch::keyword: return "keyword";
    case DomainMatch::regex: return "regex";
  }
  return "";
}

struct DomainSet::Patterns {
  Patterns() : set(options(), RE2::UNANCHORED) {}
  static RE2::Options options() {
    RE2::Options options;
    options.set_log_errors(false);
    options.set_encoding(RE2::Options::EncodingLatin1);
    options.set_never_capture(true);
    return options;
  }
  RE2::Set set;
};

DomainSet::DomainSet() = default;
DomainSet::DomainSet(DomainSet&&) noexcept = default;
DomainSet& DomainSet::operator=(DomainSet&&) noexcept = default;
DomainSet::~DomainSet() = default;

bool DomainSet::finds(std::uint64_t hash, std::string_view name, bool whole) const noexcept {
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t slot = hash & mask; slots_[slot] != 0; slot = (slot + 1) & mask) {
    const char* entry = text_.data() + (slots_[slot] - 1);
    const std::string_view found(entry + kHead, static_cast<unsigned char>(entry[0]));
    if (found == name) return entry[1] == kBelow || (whole && entry[1] == kExact);
  }
  return false;
}

bool DomainSet::matches(std::string_view name) const noexcept {
  if (name.empty() || name.size() > kLongestName) return false;
  if (!slots_.empty()) {
    std::uint64_t hash = kHashStart;
    for (std::size_t at = name.size(); at-- > 0;) {
      hash = add_byte(hash, name[at]);
      if (at == 0 || name[at - 1] == '.') {
        if (finds(mixed(hash), name.substr(at), at == 0)) return true;
      }
    }
  }
  if (std::ranges::any_of(keywords_,
                          [&](const std::string& keyword) { return name.find(keyword) != std::string_view::npos; })) {
    return true;
  }
  return patterns_ && patterns_->set.Match(re2::StringPiece(name.data(), name.size()), nullptr);
}

Status DomainSet::Builder::add(DomainMatch match, std::string_view text) {
  const auto wrong = [&](std::string_view cause, std::string_view remedy = {}) {
    return usage_error(fmt::format("read {} name", to_string(match)), text, cause, remedy);
  };
  if (match == DomainMatch::regex) {
    if (text.empty() || text.size() > kLongestPattern) return wrong("a pattern has 1 to 512 bytes");
    const RE2 pattern(re2::StringPiece(text.data(), text.size()), Patterns::options());
    if (!pattern.ok()) return wrong(pattern.error(), "RE2's syntax: no back-references, no look-around");
    patterns_.emplace_back(text);
    return {};
  }
  std::string name = ascii_lower(text);
  if (match == DomainMatch::keyword) {
    if (name.empty() || name.size() > kLongestName) return wrong("a keyword has 1 to 253 bytes");
    if (!std::ranges::all_of(name, [](char c) { return is_name_byte(c) || c == '.'; }))
      return wrong("no name can have such a part", "only letters, digits, -, _ and dots make a name");
    keywords_.push_back(std::move(name));
    return {};
  }
  if (match == DomainMatch::suffix) {
    if (name.starts_with("*.")) name.erase(0, 2);
    if (name.starts_with('.')) name.erase(0, 1);
  } else if (name.starts_with("*.")) {
    return wrong("an exact name has no wildcard", fmt::format("write suffix: {}", name.substr(2)));
  }
  if (name.ends_with('.')) name.pop_back();
  if (const char* flaw = flaw_of(name); flaw != nullptr) return wrong(flaw);
  if (text_.size() + kHead + name.size() >= std::numeric_limits<std::uint32_t>::max())
    return wrong("a set holds less than 4 GiB of names");
  begins_.push_back(static_cast<std::uint32_t>(text_.size()));
  text_ += static_cast<char>(static_cast<unsigned char>(name.size()));
  text_ += match == DomainMatch::exact ? kExact : kBelow;
  text_ += name;
  return {};
}

Result<DomainSet> DomainSet::Builder::build() && {
  DomainSet set;
  set.fingerprint_ = hash_of(text_);
  for (const auto* texts : {&keywords_, &patterns_}) {
    set.fingerprint_ = mixed(set.fingerprint_ + texts->size());  // a pattern is no keyword
    for (const std::string& text : *texts) set.fingerprint_ = mixed(set.fingerprint_ ^ hash_of(text));
  }
  set.text_ = std::move(text_);
  set.text_.shrink_to_fit();
  set.keywords_ = std::move(keywords_);
  if (!begins_.empty()) {
    set.slots_.resize(std::bit_ceil(begins_.size() * 2));
    const std::size_t mask = set.slots_.size() - 1;
    for (const std::uint32_t begin : begins_) {
      char* entry = set.text_.data() + begin;
      const std::string_view name(entry + kHead, static_cast<unsigned char>(entry[0]));
      std::size_t slot = hash_of(name) & mask;
      bool is_known = false;
      for (; set.slots_[slot] != 0 && !is_known; slot = is_known ? slot : (slot + 1) & mask) {
        char* other = set.text_.data() + (set.slots_[slot] - 1);
        if (std::string_view(other + kHead, static_cast<unsigned char>(other[0])) != name) continue;
        is_known = true;
        other[1] = std::max(other[1], entry[1]);  // with everything below means the name, too
      }
      if (is_known) continue;
      set.slots_[slot] = begin + 1;
      ++set.names_;
    }
  }
  if (!patterns_.empty()) {
    set.patterns_ = std::make_unique<Patterns>();
    for (const std::string& pattern : patterns_) {
      std::string error;
      if (set.patterns_->set.Add(pattern, &error) < 0) return usage_error("read regex name", pattern, error);
    }
    if (!set.patterns_->set.Compile())
      return failure("compile", "the patterns of a set", "out of memory", "use fewer or simpler ones");
    set.patterns_count_ = patterns_.size();
  }
  return set;
}

}  // namespace limpid
