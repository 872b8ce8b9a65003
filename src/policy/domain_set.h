// DomainSet: names as rules mean them: exactly, with everything below (suffix), with a part anywhere (keyword), or by a pattern. Built for a million names:
// they stand behind each other in one text, and a hash table of 8 bytes for each finds them label by label. Immutable once built.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "limpid/error.h"

namespace limpid {

enum class DomainMatch : std::uint8_t { exact, suffix, keyword, regex };
/// "exact", "suffix", "keyword", "regex".
[[nodiscard]] std::string_view to_string(DomainMatch match) noexcept;

class DomainSet {
 public:
  class Builder;
  DomainSet(DomainSet&&) noexcept;
  DomainSet& operator=(DomainSet&&) noexcept;
  DomainSet(const DomainSet&) = delete;
  DomainSet& operator=(const DomainSet&) = delete;
  ~DomainSet();

  /// `name`: lower case, without the last dot, as a sniffer gives it. Allocates nothing unless there are patterns.
  [[nodiscard]] bool matches(std::string_view name) const noexcept;
  /// How many names, keywords and patterns.
  [[nodiscard]] std::size_t size() const noexcept { return names_ + keywords_.size() + patterns_count_; }
  /// The same for the same names, keywords and patterns in the same order; another one, all but certainly, for others.
  [[nodiscard]] std::uint64_t fingerprint() const noexcept { return fingerprint_; }

 private:
  struct Patterns;
  DomainSet();
  [[nodiscard]] bool finds(std::uint64_t hash, std::string_view name, bool whole) const noexcept;

  std::string text_;                  ///< each name behind two bytes: its length, and how it is meant
  std::vector<std::uint32_t> slots_;  ///< open addressing, a power of two: where in `text_`, and 1; 0: empty
  std::size_t names_ = 0;
  std::vector<std::string> keywords_;
  std::unique_ptr<Patterns> patterns_;
  std::size_t patterns_count_ = 0;
  std::uint64_t fingerprint_ = 0;
};

class DomainSet::Builder {
 public:
  /// Checks a name (letters, digits, - and _, dots; any case; a leading "*." of a suffix is left out, as is a last dot), keyword or pattern (RE2's syntax, found anywhere
  /// unless anchored).
  [[nodiscard]] Status add(DomainMatch match, std::string_view text);
  [[nodiscard]] Result<DomainSet> build() &&;

 private:
  std::string text_;
  std::vector<std::uint32_t> begins_;
  std::vector<std::string> keywords_;
  std::vector<std::string> patterns_;
};

}  // namespace limpid
