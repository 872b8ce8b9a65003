// SecretToken: the word that lets an operator change things through the dashboard. Read once, from a file that nobody else can read; never shown.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "limpid/error.h"

namespace limpid {

class SecretToken {
 public:
  /// Fewer could be guessed, even at the pace that AttemptLimit allows.
  static constexpr std::size_t kLeastBytes = 16;
  static constexpr std::size_t kMostBytes = 1024;

  /// One line of printable ASCII without spaces, in a regular file that only its owner may read (0600), who is root or this process' user.
  [[nodiscard]] static Result<SecretToken> read(const std::string& path);
  explicit SecretToken(std::string text) noexcept : text_(std::move(text)) {}

  /// Takes as long for a guess that is nearly right as for any other one of the token's length, which alone shows.
  [[nodiscard]] bool matches(std::string_view guess) const noexcept;

 private:
  std::string text_;
};

}  // namespace limpid
