// ECMA-48: ESC [ parameters final, and ESC O final, which cursor keys send in application mode. The numbers with ~ are those of xterm, of
// the Linux console and of tmux.
#include "top/keys.h"

#include <utility>

namespace limpid::top {
namespace {

constexpr char kEscape = '\x1b';
/// No key sends more: whoever does is not a keyboard.
constexpr std::size_t kLongest = 32;

std::optional<KeyKind> meaning(std::string_view parameters, char final) {
  switch (final) {
    case 'A': return KeyKind::up;
    case 'B': return KeyKind::down;
    case 'H': return KeyKind::home;
    case 'F': return KeyKind::end;
    case '~':
      if (parameters == "1" || parameters == "7") return KeyKind::home;
      if (parameters == "4" || parameters == "8") return KeyKind::end;
      if (parameters == "5") return KeyKind::page_up;
      if (parameters == "6") return KeyKind::page_down;
      return std::nullopt;
    default: return std::nullopt;
  }
}

std::optional<Key> plain_key(char c) {
  switch (c) {
    case '\r':
    case '\n': return Key{KeyKind::enter};
    case '\x7f':
    case '\b': return Key{KeyKind::backspace};
    case '\x0c': return Key{KeyKind::redraw};
    case '\x15': return Key{KeyKind::clear};
    default: return c >= ' ' && c < '\x7f' ? std::optional(Key{KeyKind::character, c}) : std::nullopt;
  }
}

}  // namespace

std::vector<Key> KeyReader::feed(std::string_view bytes) {
  std::vector<Key> keys;
  for (const char c : bytes) {
    if (pending_.empty()) {
      if (c == kEscape) {
        pending_ = c;
      } else if (const auto key = plain_key(c)) {
        keys.push_back(*key);
      }
      continue;
    }
    if (pending_.size() == 1 && c != '[' && c != 'O') {  // the escape key, and another one
      keys.push_back({KeyKind::escape});
      pending_.clear();
      if (c == kEscape) {
        pending_ = c;
      } else if (const auto key = plain_key(c)) {
        keys.push_back(*key);
      }
      continue;
    }
    if (pending_.size() >= 2 && c >= '@' && c <= '~') {
      if (const auto kind = meaning(std::string_view(pending_).substr(2), c)) keys.push_back({*kind});
      pending_.clear();
    } else if (pending_.size() >= kLongest) {
      pending_.clear();
    } else {
      pending_ += c;
    }
  }
  return keys;
}

std::optional<Key> KeyReader::time_out() {
  const std::string waited = std::exchange(pending_, {});
  return waited.size() == 1 ? std::optional(Key{KeyKind::escape}) : std::nullopt;
}

}  // namespace limpid::top
