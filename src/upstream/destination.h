// Where an upstream is asked to go, and what every handshake with one has in common: bytes to send, bytes to take, a state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "limpid/address.h"

namespace limpid {

/// The name wins where there is one. Only a name that is_host_name() may be put in.
struct Destination {
  SocketAddress address;
  std::string name;
};

/// What may stand as a host in a request: 1 to 253 letters, digits, '-', '_' and '.'. Whatever a client has put into its first bytes
/// else must not get into a header.
[[nodiscard]] bool is_host_name(std::string_view text) noexcept;

/// How far a handshake has got. All but `running` are final.
enum class HandshakeState : std::uint8_t {
  running,
  done,         ///< from here on, every byte belongs to the flow
  refused,      ///< the destination refused the connection: no other upstream would do better
  unreachable,  ///< the upstream does not reach the destination
  denied,       ///< the upstream's rules forbid it
  rejected,     ///< without a reason that tells whose fault it is
  unauthorized,
  malformed,  ///< not an answer of this protocol
};
[[nodiscard]] std::string_view to_string(HandshakeState state) noexcept;

/// True where the upstream itself, and not the destination, is at fault.
[[nodiscard]] bool is_fault_of_upstream(HandshakeState state) noexcept;

/// Bytes that wait to be sent.
class Outgoing {
 public:
  void put(std::uint8_t byte) { bytes_.push_back(static_cast<char>(byte)); }
  void put(std::string_view text) { bytes_ += text; }
  void put16(std::uint16_t number) {
    put(static_cast<std::uint8_t>(number >> 8U));
    put(static_cast<std::uint8_t>(number & 0xffU));
  }
  /// Network order, 4 or 16 bytes.
  void put(const IpAddress& address) {
    for (unsigned i = 0; i < address.bits() / 8; ++i) put(address.bytes().at(i));
  }
  [[nodiscard]] std::span<const std::byte> waiting() const noexcept {
    return std::as_bytes(std::span(bytes_).subspan(sent_));
  }
  void sent(std::size_t count) noexcept { sent_ += count < bytes_.size() - sent_ ? count : bytes_.size() - sent_; }

 private:
  std::string bytes_;
  std::size_t sent_ = 0;
};

}  // namespace limpid
