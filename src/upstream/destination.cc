// Names that may be put into requests, and the words for how handshakes end.
#include "upstream/destination.h"

#include <algorithm>

namespace limpid {

bool is_host_name(std::string_view text) noexcept {
  constexpr std::size_t kLongest = 253;  // RFC 1035, 2.3.4, without the dots at the ends
  if (text.empty() || text.size() > kLongest || text.front() == '.' || text.front() == '-') return false;
  return std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
           c == '.';
  });
}

std::string_view to_string(HandshakeState state) noexcept {
  switch (state) {
    case HandshakeState::running: return "running";
    case HandshakeState::done: return "done";
    case HandshakeState::refused: return "refused";
    case HandshakeState::unreachable: return "unreachable";
    case HandshakeState::denied: return "denied";
    case HandshakeState::rejected: return "rejected";
    case HandshakeState::unauthorized: return "unauthorized";
    case HandshakeState::malformed: return "malformed";
  }
  return "";
}

bool is_fault_of_upstream(HandshakeState state) noexcept {
  return state == HandshakeState::unauthorized || state == HandshakeState::malformed;
}

}  // namespace limpid
