// What the fuzzers share: their input as text, and properties that must hold (a violation stops the fuzzer with the
// input that caused it).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "limpid/error.h"

namespace limpid::fuzz {

inline std::string_view as_text(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};  // NOLINT(*-reinterpret-cast): libFuzzer hands out bytes
}

inline void check(bool holds, const char* property) {
  if (holds) return;
  std::fprintf(stderr, "violated: %s\n", property);
  std::abort();
}

/// An error about something that a user typed is a usage error with a cause.
inline void check_user_error(const Error& error) {
  check(error.kind == ErrorKind::usage && !error.cause.empty(), "what a user mistyped is a usage error with a cause");
}

}  // namespace limpid::fuzz
