// What the tests of the codecs share: text as bytes, a codec fed whole or byte by byte, and what it has to say.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace limpid {

using namespace std::string_literals;

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

/// What waits to be sent, and marks it as sent, a byte at a time.
template <class Codec>
std::string said_by(Codec& codec) {
  std::string said;
  while (!codec.waiting().empty()) {
    said += static_cast<char>(codec.waiting().front());
    codec.sent(1);
  }
  return said;
}

/// How many bytes of the text were taken.
template <class Codec>
std::size_t give_whole(Codec& codec, std::string_view text) {
  return codec.take(bytes_of(text));
}
template <class Codec>
std::size_t give_in_bytes(Codec& codec, std::string_view text) {
  std::size_t taken = 0;
  for (std::size_t i = 0; i < text.size(); ++i) taken += codec.take(bytes_of(text.substr(i, 1)));
  return taken;
}

}  // namespace limpid
