// Parses, prints and converts addresses. The only place where they meet network byte order.
#include "limpid/address.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

namespace limpid {
namespace {

constexpr std::array<std::uint8_t, 12> kMappedPrefix{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

Result<Port> parse_port(std::string_view text, std::string_view whole) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value == 0 || value > 65535) {
    return usage_error("parse address", whole, fmt::format("'{}' is not a port", text), "ports are 1 to 65535");
  }
  return Port{static_cast<std::uint16_t>(value)};
}

}  // namespace

std::string_view to_string(Family family) noexcept {
  return family == Family::ipv4 ? "IPv4" : "IPv6";
}

Result<IpAddress> IpAddress::parse(std::string_view text) {
  const std::string terminated(text);
  IpAddress address;
  // inet_pton stops at the first NUL: an embedded one must not hide what follows it.
  if (text.find('\0') == std::string_view::npos) {
    if (inet_pton(AF_INET, terminated.c_str(), address.bytes_.data()) == 1) return address;
    address.family_ = Family::ipv6;
    if (inet_pton(AF_INET6, terminated.c_str(), address.bytes_.data()) == 1) return address;
  }
  return usage_error("parse address", text, "not an IPv4 or IPv6 address",
                     "write it like 192.0.2.1 or 2001:db8::1, without a name or brackets");
}

IpAddress IpAddress::from_bytes(Family family, const std::array<std::uint8_t, 16>& bytes) noexcept {
  IpAddress address;
  address.family_ = family;
  const std::size_t length = family == Family::ipv4 ? 4 : 16;
  std::copy_n(bytes.begin(), length, address.bytes_.begin());
  return address;
}

IpAddress IpAddress::any(Family family) noexcept {
  return from_bytes(family, {});
}

IpAddress IpAddress::loopback(Family family) noexcept {
  if (family == Family::ipv4) return from_bytes(family, {127, 0, 0, 1});
  return from_bytes(family, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
}

bool IpAddress::is_unspecified() const noexcept {
  return std::ranges::all_of(bytes_, [](std::uint8_t byte) { return byte == 0; });
}

bool IpAddress::is_loopback() const noexcept {
  return family_ == Family::ipv4 ? bytes_[0] == 127 : *this == loopback(Family::ipv6);
}

bool IpAddress::is_multicast() const noexcept {
  return family_ == Family::ipv4 ? (bytes_[0] & 0xf0) == 0xe0 : bytes_[0] == 0xff;
}

bool IpAddress::is_link_local() const noexcept {
  if (family_ == Family::ipv4) return bytes_[0] == 169 && bytes_[1] == 254;
  return bytes_[0] == 0xfe && (bytes_[1] & 0xc0) == 0x80;
}

bool IpAddress::is_broadcast() const noexcept {
  return family_ == Family::ipv4 && std::all_of(bytes_.begin(), bytes_.begin() + 4, [](auto b) { return b == 0xff; });
}

IpAddress IpAddress::unmapped() const noexcept {
  if (family_ != Family::ipv6 || !std::equal(kMappedPrefix.begin(), kMappedPrefix.end(), bytes_.begin())) return *this;
  return from_bytes(Family::ipv4, {bytes_[12], bytes_[13], bytes_[14], bytes_[15]});
}

std::string IpAddress::to_string() const {
  std::array<char, INET6_ADDRSTRLEN> text{};
  inet_ntop(family_ == Family::ipv4 ? AF_INET : AF_INET6, bytes_.data(), text.data(), text.size());
  return text.data();
}

Result<SocketAddress> SocketAddress::parse(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return usage_error("parse address", text, "no port", "write 192.0.2.1:80 or [2001:db8::1]:80");
  }
  std::string_view host = text.substr(0, colon);
  const bool bracketed = host.size() >= 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  const auto address = IpAddress::parse(host);
  if (!address) return std::unexpected(address.error());
  if (bracketed != (address->family() == Family::ipv6)) {
    return usage_error("parse address", text, "an IPv6 address with a port needs brackets, an IPv4 address none",
                       "write 192.0.2.1:80 or [2001:db8::1]:80");
  }
  const auto port = parse_port(text.substr(colon + 1), text);
  if (!port) return std::unexpected(port.error());
  return SocketAddress{.address = *address, .port = *port};
}

Result<SocketAddress> SocketAddress::from_native(const sockaddr_storage& native) {
  SocketAddress result;
  std::array<std::uint8_t, 16> bytes{};
  if (native.ss_family == AF_INET) {
    sockaddr_in ipv4{};
    std::memcpy(&ipv4, &native, sizeof ipv4);
    std::memcpy(bytes.data(), &ipv4.sin_addr, sizeof ipv4.sin_addr);
    result.address = IpAddress::from_bytes(Family::ipv4, bytes);
    result.port = Port{ntohs(ipv4.sin_port)};
    return result;
  }
  if (native.ss_family == AF_INET6) {
    sockaddr_in6 ipv6{};
    std::memcpy(&ipv6, &native, sizeof ipv6);
    std::memcpy(bytes.data(), &ipv6.sin6_addr, sizeof ipv6.sin6_addr);
    result.address = IpAddress::from_bytes(Family::ipv6, bytes).unmapped();
    result.port = Port{ntohs(ipv6.sin6_port)};
    result.scope_id = result.family() == Family::ipv6 ? ipv6.sin6_scope_id : 0;
    return result;
  }
  return failure("read address", "", fmt::format("address family {} is neither IPv4 nor IPv6", native.ss_family));
}

std::uint32_t SocketAddress::to_native(sockaddr_storage& native) const noexcept {
  native = {};
  if (family() == Family::ipv4) {
    sockaddr_in ipv4{};
    ipv4.sin_family = AF_INET;
    ipv4.sin_port = htons(port.value);
    std::memcpy(&ipv4.sin_addr, address.bytes().data(), sizeof ipv4.sin_addr);
    std::memcpy(&native, &ipv4, sizeof ipv4);
    return sizeof ipv4;
  }
  sockaddr_in6 ipv6{};
  ipv6.sin6_family = AF_INET6;
  ipv6.sin6_port = htons(port.value);
  ipv6.sin6_scope_id = scope_id;
  std::memcpy(&ipv6.sin6_addr, address.bytes().data(), sizeof ipv6.sin6_addr);
  std::memcpy(&native, &ipv6, sizeof ipv6);
  return sizeof ipv6;
}

std::string SocketAddress::to_string() const {
  if (family() == Family::ipv4) return fmt::format("{}:{}", address.to_string(), port.value);
  if (scope_id != 0) return fmt::format("[{}%{}]:{}", address.to_string(), scope_id, port.value);
  return fmt::format("[{}]:{}", address.to_string(), port.value);
}

}  // namespace limpid
