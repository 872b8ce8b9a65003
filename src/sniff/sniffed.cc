// The words for what was sniffed, and the list of ALPN ids.
#include "sniff/sniffed.h"

#include <algorithm>

namespace limpid {

std::string_view to_string(SniffedProtocol protocol) noexcept {
  switch (protocol) {
    case SniffedProtocol::none: return "none";
    case SniffedProtocol::tls: return "tls";
    case SniffedProtocol::http1: return "http1";
    case SniffedProtocol::http2: return "http2";
    case SniffedProtocol::quic: return "quic";
    case SniffedProtocol::ssh: return "ssh";
    case SniffedProtocol::dns: return "dns";
  }
  return "none";
}

std::string_view to_string(SniffOutcome outcome) noexcept {
  switch (outcome) {
    case SniffOutcome::found: return "found";
    case SniffOutcome::more: return "more";
    case SniffOutcome::unknown: return "unknown";
  }
  return "unknown";
}

std::string_view to_string(Doubt doubt) noexcept {
  switch (doubt) {
    case Doubt::none: return "none";
    case Doubt::unrecognised: return "unrecognised";
    case Doubt::malformed: return "malformed";
    case Doubt::too_long: return "too-long";
  }
  return "none";
}

bool AlpnList::add(std::string_view id) noexcept {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view("./-_+").find(c) != std::string_view::npos;
  };
  if (id.empty() || !std::ranges::all_of(id, allowed)) return false;
  const std::size_t separator = used_ == 0 ? 0 : 1;
  if (truncated_ || id.size() + separator > kMostBytes - used_) {
    truncated_ = true;
    return false;
  }
  if (separator != 0) text_.at(used_++) = ',';
  std::ranges::copy(id, text_.begin() + used_);
  used_ = static_cast<std::uint8_t>(used_ + id.size());
  return true;
}

bool AlpnList::contains(std::string_view id) const noexcept {
  if (id.empty()) return false;
  for (auto rest = view(); !rest.empty();) {
    const auto comma = std::min(rest.find(','), rest.size());
    if (rest.substr(0, comma) == id) return true;
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return false;
}

}  // namespace limpid
