// RSV (two zeros), FRAG, ATYP, address, port.
#include "upstream/socks5_datagram.h"

#include <algorithm>

#include "base/big_endian.h"

namespace limpid {
namespace {

constexpr std::size_t kBeforeAddress = 4;
constexpr std::size_t kMostNameBytes = 255;
constexpr std::byte kIpv4{1};
constexpr std::byte kName{3};
constexpr std::byte kIpv6{4};

}  // namespace

Socks5DatagramHeader::Socks5DatagramHeader(const SocketAddress& destination, std::string_view name) noexcept
    : length_(kBeforeAddress - 1) {
  if (!name.empty()) {
    name = name.substr(0, kMostNameBytes);
    append(kName);
    append(static_cast<std::byte>(name.size()));
    for (const char c : name) append(static_cast<std::byte>(c));
  } else {
    append(destination.family() == Family::ipv4 ? kIpv4 : kIpv6);
    for (std::size_t i = 0; i < destination.address.bits() / 8; ++i)
      append(std::byte{destination.address.bytes().at(i)});
  }
  append(static_cast<std::byte>(destination.port.value >> 8U));
  append(static_cast<std::byte>(destination.port.value & 0xffU));
}

std::optional<Socks5Datagram> read_socks5_datagram(std::span<const std::byte> bytes) noexcept {
  if (bytes.size() < kBeforeAddress || bytes[2] != std::byte{0}) return std::nullopt;
  if (bytes[3] != kIpv4 && bytes[3] != kIpv6) return std::nullopt;
  const std::size_t address_bytes = bytes[3] == kIpv4 ? 4 : 16;
  const std::size_t length = kBeforeAddress + address_bytes + 2;
  if (bytes.size() < length) return std::nullopt;
  std::array<std::uint8_t, 16> address{};
  for (std::size_t i = 0; i < address_bytes; ++i) {
    address.at(i) = std::to_integer<std::uint8_t>(bytes[kBeforeAddress + i]);
  }
  Socks5Datagram datagram;
  datagram.from.address = IpAddress::from_bytes(bytes[3] == kIpv4 ? Family::ipv4 : Family::ipv6, address);
  datagram.from.port.value = big_endian16(bytes, length - 2);
  datagram.payload = bytes.subspan(length);
  return datagram;
}

}  // namespace limpid
