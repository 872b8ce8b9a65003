// Strict: whoever sends something else than a header is not the one that was configured, and must not be taken for it.
#include "upstream/proxy_reader.h"

#include <algorithm>
#include <charconv>
#include <string_view>

#include "upstream/proxy_header.h"

namespace limpid {
namespace {

constexpr std::size_t kPrologue = 16;
constexpr std::size_t kAddresses4 = 12;
constexpr std::size_t kAddresses6 = 36;
constexpr std::string_view kLineBegin = "PROXY ";

/// The next word and the space behind it; empty where there is none.
std::string_view next_word(std::string_view& text) noexcept {
  const auto space = text.find(' ');
  const auto word = text.substr(0, space);
  text.remove_prefix(space == std::string_view::npos ? text.size() : space + 1);
  return word;
}

std::optional<std::uint16_t> read_port(std::string_view text) noexcept {
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  const bool padded = text.size() > 1 && text.front() == '0';
  if (error != std::errc{} || end != text.data() + text.size() || padded) return std::nullopt;
  return port;
}

std::optional<IpAddress> read_address(std::string_view text, Family family) noexcept {
  const auto address = IpAddress::parse(text);
  if (!address || address->family() != family) return std::nullopt;
  return *address;
}

}  // namespace

std::size_t ProxyReader::take(std::span<const std::byte> bytes) noexcept {
  std::size_t used = 0;
  while (state_ == State::running && used < bytes.size()) take_byte(std::to_integer<std::uint8_t>(bytes[used++]));
  return used;
}

void ProxyReader::take_byte(std::uint8_t byte) noexcept {
  const bool binary = taken_ == 0 ? byte == kProxySignature[0] : bytes_[0] == kProxySignature[0];
  if (binary) {
    take_binary(byte);
  } else {
    take_text(byte);
  }
}

void ProxyReader::take_text(std::uint8_t byte) noexcept {
  bytes_.at(taken_) = byte;
  ++taken_;
  if (taken_ <= kLineBegin.size() && byte != static_cast<std::uint8_t>(kLineBegin[taken_ - 1])) {
    state_ = State::malformed;
  } else if (byte == '\n') {
    read_line();
  } else if (taken_ == bytes_.size()) {
    state_ = State::malformed;
  }
}

void ProxyReader::take_binary(std::uint8_t byte) noexcept {
  // Behind the addresses come facts that are not asked for: counted, not kept.
  if (taken_ < kPrologue + kAddresses6) bytes_.at(taken_) = byte;
  ++taken_;
  if (taken_ <= kProxySignature.size() && byte != kProxySignature.at(taken_ - 1)) {
    state_ = State::malformed;
  } else if (taken_ == kPrologue) {
    read_prologue();
  }
  if (state_ == State::running && taken_ >= kPrologue && taken_ == length_) read_addresses();
}

void ProxyReader::read_line() noexcept {
  state_ = State::malformed;
  std::string_view line(reinterpret_cast<const char*>(bytes_.data()), taken_ - 1);
  if (!line.ends_with('\r')) return;
  line.remove_suffix(1);
  line.remove_prefix(kLineBegin.size());
  const auto protocol = next_word(line);
  if (protocol == "UNKNOWN") {
    state_ = State::done;
    return;
  }
  if (protocol != "TCP4" && protocol != "TCP6") return;
  const Family family = protocol == "TCP4" ? Family::ipv4 : Family::ipv6;
  const auto client = read_address(next_word(line), family);
  const auto destination = read_address(next_word(line), family);
  const auto client_port = read_port(next_word(line));
  const auto destination_port = read_port(line);
  if (!client || !destination || !client_port || !destination_port) return;
  client_ = SocketAddress{.address = *client, .port = {*client_port}};
  destination_ = SocketAddress{.address = *destination, .port = {*destination_port}};
  state_ = State::done;
}

void ProxyReader::read_prologue() noexcept {
  constexpr std::uint8_t kLocal = 0x20;
  constexpr std::uint8_t kProxy = 0x21;
  length_ = kPrologue + ((std::size_t{bytes_[14]} << 8U) | bytes_[15]);
  const bool known = bytes_[12] == kLocal || bytes_[12] == kProxy;
  std::size_t least = kPrologue;
  if (bytes_[12] == kProxy) {
    switch (bytes_[13]) {
      case 0x00: break;                            // unspecified: as LOCAL
      case 0x11: least += kAddresses4; break;      // TCP over IPv4
      case 0x21: least += kAddresses6; break;      // TCP over IPv6
      default: state_ = State::malformed; return;  // datagrams and Unix sockets are no clients of ours
    }
  }
  if (!known || length_ < least || length_ > kMostBytes) state_ = State::malformed;
}

void ProxyReader::read_addresses() noexcept {
  state_ = State::done;
  const bool names_somebody = bytes_[12] == 0x21 && bytes_[13] != 0;
  if (!names_somebody) return;
  const Family family = bytes_[13] == 0x11 ? Family::ipv4 : Family::ipv6;
  const std::size_t size = family == Family::ipv4 ? 4 : 16;
  const auto address_at = [&](std::size_t at) {
    std::array<std::uint8_t, 16> address{};
    for (std::size_t i = 0; i < size; ++i) address.at(i) = bytes_.at(at + i);
    return IpAddress::from_bytes(family, address).unmapped();
  };
  const auto port_at = [&](std::size_t at) {
    return Port{static_cast<std::uint16_t>((bytes_.at(at) << 8U) | bytes_.at(at + 1))};
  };
  const std::size_t ports = kPrologue + 2 * size;
  client_ = SocketAddress{.address = address_at(kPrologue), .port = port_at(ports)};
  destination_ = SocketAddress{.address = address_at(kPrologue + size), .port = port_at(ports + 2)};
}

}  // namespace limpid
