// Normalising a name, byte by byte against an allow-list (RFC 1035 section 2.3.1, RFC 1123 section 2.1, and the underscore that
// service names and careless people use). Pure.
#include "sniff/host_name.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>

namespace limpid {
namespace {

bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

/// What each byte becomes in a label; zero where it must not stand in one.
constexpr std::array<char, 256> kLabelBytes = [] {
  std::array<char, 256> table{};
  for (unsigned c = 'a'; c <= 'z'; ++c) {
    table.at(c) = static_cast<char>(c);
    table.at(c - 'a' + 'A') = static_cast<char>(c);
  }
  for (unsigned c = '0'; c <= '9'; ++c) table.at(c) = static_cast<char>(c);
  table.at('-') = '-';
  table.at('_') = '_';
  return table;
}();

/// Whether somebody may read it as an IPv4 address: its last label is a number (WHATWG URL, "ends in a number").
bool ends_in_number(std::string_view name) noexcept {
  if (name.ends_with('.')) name.remove_suffix(1);
  const auto label = name.substr(name.rfind('.') + 1);  // npos + 1 is 0
  if (label.starts_with("0x") || label.starts_with("0X")) {
    return std::ranges::all_of(label.substr(2),
                               [](char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); });
  }
  return !label.empty() && std::ranges::all_of(label, is_digit);
}

bool is_port(std::string_view text) noexcept {
  unsigned port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return text.size() <= 5 && error == std::errc() && end == text.data() + text.size() && port <= 65535;
}

}  // namespace

bool HostName::assign_domain(std::string_view text) noexcept {
  clear();
  if (text.ends_with('.')) text.remove_suffix(1);
  if (text.empty() || text.size() > kMostBytes) return false;
  std::size_t label_bytes = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '.') {
      if (label_bytes == 0) return false;
      label_bytes = 0;
      text_[i] = '.';
      continue;
    }
    text_[i] = kLabelBytes[static_cast<unsigned char>(text[i])];
    if (text_[i] == 0 || ++label_bytes > kMostLabelBytes) return false;
  }
  if (label_bytes == 0) return false;
  length_ = static_cast<std::uint8_t>(text.size());
  kind_ = Kind::domain;
  return true;
}

bool HostName::assign_host(std::string_view text) noexcept {
  if (text.find(':') != std::string_view::npos) return assign_ipv6(text);
  if (ends_in_number(text)) return assign_ipv4(text);
  return assign_domain(text);
}

bool HostName::assign_authority(std::string_view text) noexcept {
  clear();
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == std::string_view::npos) return false;
    const auto behind = text.substr(end + 1);
    if (!behind.empty() && !(behind.starts_with(':') && (behind.size() == 1 || is_port(behind.substr(1)))))
      return false;
    return assign_ipv6(text.substr(1, end - 1));
  }
  const auto colon = text.find(':');
  if (colon != std::string_view::npos) {
    // "host:" is allowed (RFC 3986 section 3.2.3: *DIGIT); a second colon is not.
    const auto port = text.substr(colon + 1);
    if (!port.empty() && !is_port(port)) return false;
    text = text.substr(0, colon);
  }
  return ends_in_number(text) ? assign_ipv4(text) : assign_domain(text);
}

bool HostName::assign_ipv4(std::string_view text) noexcept {
  clear();
  if (text.ends_with('.')) text.remove_suffix(1);
  // Four numbers without leading zeroes, which some read as octal: what inet_pton(3) takes is what comes out of inet_ntop.
  std::array<char, INET_ADDRSTRLEN> terminated{};
  if (text.size() >= terminated.size()) return false;
  std::ranges::copy(text, terminated.begin());
  in_addr address{};
  if (inet_pton(AF_INET, terminated.data(), &address) != 1) return false;
  if (inet_ntop(AF_INET, &address, text_.data(), INET_ADDRSTRLEN) == nullptr || text != text_.data()) return false;
  length_ = static_cast<std::uint8_t>(text.size());
  kind_ = Kind::ipv4;
  return true;
}

bool HostName::assign_ipv6(std::string_view text) noexcept {
  clear();
  std::array<char, INET6_ADDRSTRLEN> terminated{};
  if (text.size() >= terminated.size() || text.find('\0') != std::string_view::npos) return false;
  std::ranges::copy(text, terminated.begin());
  in6_addr address{};
  if (inet_pton(AF_INET6, terminated.data(), &address) != 1) return false;
  if (inet_ntop(AF_INET6, &address, text_.data(), INET6_ADDRSTRLEN) == nullptr) return false;
  length_ = static_cast<std::uint8_t>(std::string_view(text_.data()).size());
  kind_ = Kind::ipv6;
  return true;
}

}  // namespace limpid
