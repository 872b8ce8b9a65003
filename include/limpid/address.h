// Addresses as values: IpAddress, Port, SocketAddress. Everything here is in host byte order and prints itself as
// users write it; network byte order stays inside src/net.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "limpid/error.h"

struct sockaddr;
struct sockaddr_storage;

namespace limpid {

enum class Family : std::uint8_t { ipv4, ipv6 };

/// "IPv4" or "IPv6".
[[nodiscard]] std::string_view to_string(Family family) noexcept;

/// A TCP or UDP port, 0…65535. 0 means "none" or "any", as the context says.
struct Port {
  std::uint16_t value = 0;
  auto operator<=>(const Port&) const = default;
};

/// An IPv4 or IPv6 address without port or scope. The default is 0.0.0.0.
class IpAddress {
 public:
  IpAddress() noexcept = default;

  /// Reads "192.0.2.1" or "2001:db8::1" (inet_pton's forms, no scope, no brackets).
  [[nodiscard]] static Result<IpAddress> parse(std::string_view text);
  /// `bytes` in network order: the first four count for IPv4.
  [[nodiscard]] static IpAddress from_bytes(Family family, const std::array<std::uint8_t, 16>& bytes) noexcept;
  [[nodiscard]] static IpAddress any(Family family) noexcept;
  /// 127.0.0.1 or ::1.
  [[nodiscard]] static IpAddress loopback(Family family) noexcept;

  [[nodiscard]] Family family() const noexcept { return family_; }
  /// Network order; bytes past the fourth are zero for IPv4.
  [[nodiscard]] const std::array<std::uint8_t, 16>& bytes() const noexcept { return bytes_; }
  /// 32 or 128.
  [[nodiscard]] unsigned bits() const noexcept { return family_ == Family::ipv4 ? 32U : 128U; }

  [[nodiscard]] bool is_unspecified() const noexcept;  ///< 0.0.0.0 or ::
  [[nodiscard]] bool is_loopback() const noexcept;     ///< 127.0.0.0/8 or ::1
  [[nodiscard]] bool is_multicast() const noexcept;    ///< 224.0.0.0/4 or ff00::/8
  [[nodiscard]] bool is_link_local() const noexcept;   ///< 169.254.0.0/16 or fe80::/10
  [[nodiscard]] bool is_broadcast() const noexcept;    ///< 255.255.255.255
  /// ::ffff:a.b.c.d becomes a.b.c.d; every other address stays as it is.
  [[nodiscard]] IpAddress unmapped() const noexcept;

  [[nodiscard]] std::string to_string() const;
  auto operator<=>(const IpAddress&) const = default;

 private:
  std::array<std::uint8_t, 16> bytes_{};
  Family family_ = Family::ipv4;
};

/// An address with port and, for link-local IPv6 addresses, the interface index as scope (0: none).
struct SocketAddress {
  IpAddress address;
  Port port;
  std::uint32_t scope_id = 0;

  /// Reads "192.0.2.1:80" or "[2001:db8::1]:80". No host names.
  [[nodiscard]] static Result<SocketAddress> parse(std::string_view text);
  /// Out of what getsockname(2) and its like fill in. An IPv4-mapped IPv6 address becomes IPv4. Fails on other families.
  [[nodiscard]] static Result<SocketAddress> from_native(const sockaddr_storage& native);
  /// Fills `native` and returns the length that bind(2) and connect(2) want.
  [[nodiscard]] std::uint32_t to_native(sockaddr_storage& native) const noexcept;

  [[nodiscard]] Family family() const noexcept { return address.family(); }
  /// "192.0.2.1:80", "[2001:db8::1]:80", "[fe80::1%3]:80".
  [[nodiscard]] std::string to_string() const;
  auto operator<=>(const SocketAddress&) const = default;
};
static_assert(sizeof(SocketAddress) <= 24, "three of them stand in every flow");

}  // namespace limpid
