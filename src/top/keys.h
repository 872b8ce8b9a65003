// Keys out of the bytes that a terminal sends, however they are cut on the way. Pure but for the bytes that wait for the rest of a key.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace limpid::top {

enum class KeyKind : std::uint8_t {
  character,  ///< printable ASCII
  enter,
  escape,
  backspace,
  up,
  down,
  page_up,
  page_down,
  home,
  end,
  clear,   ///< ^U
  redraw,  ///< ^L
};

struct Key {
  KeyKind kind = KeyKind::character;
  char character = 0;
  friend bool operator==(const Key&, const Key&) = default;
};

class KeyReader {
 public:
  /// What is not a key that means something here is left out.
  [[nodiscard]] std::vector<Key> feed(std::string_view bytes);
  /// Nothing more came for a while: what waits was the escape key, or nothing.
  [[nodiscard]] std::optional<Key> time_out();
  [[nodiscard]] bool waits() const noexcept { return !pending_.empty(); }

 private:
  std::string pending_;  ///< begins with ESC
};

}  // namespace limpid::top
