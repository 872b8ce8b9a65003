// SOCKS5 (RFC 1928) with no authentication or user and password (RFC 1929), as a client: bytes in, bytes out. Holds no socket.
//
// States: method → (authorization) → reply → address → done. Each byte is taken when it comes and only those of the answer, so that what
// the server sends behind it stays with whoever has the socket.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "upstream/destination.h"

namespace limpid {

struct Credentials {
  std::string user;  ///< empty: none
  std::string password;
  bool operator==(const Credentials&) const = default;
};

enum class Socks5Command : std::uint8_t { connect = 1, udp_associate = 3 };

class Socks5Handshake {
 public:
  /// `destination` of a UDP association is where datagrams come from: 0.0.0.0:0 when it is not known yet.
  Socks5Handshake(Credentials credentials, Destination destination, Socks5Command command);

  [[nodiscard]] std::span<const std::byte> waiting() const noexcept { return outgoing_.waiting(); }
  void sent(std::size_t count) noexcept { outgoing_.sent(count); }
  /// Returns how many of the bytes belong to the handshake: all, unless it has ended within them.
  [[nodiscard]] std::size_t take(std::span<const std::byte> bytes);
  [[nodiscard]] HandshakeState state() const noexcept { return state_; }
  /// True once the server has agreed on a method and accepted who we are: as far as a health check goes.
  [[nodiscard]] bool is_authorized() const noexcept { return phase_ >= Phase::reply; }
  /// Once done: BND.ADDR, which for a UDP association is where datagrams go to. A name there counts as 0.0.0.0.
  [[nodiscard]] const SocketAddress& bound() const noexcept { return bound_; }

 private:
  enum class Phase : std::uint8_t { method, authorization, reply, address };
  void finish_phase();
  void read_method();
  void request();
  void read_reply();
  void read_address();

  Credentials credentials_;
  Destination destination_;
  SocketAddress bound_;
  Outgoing outgoing_;
  std::array<std::uint8_t, 262> answer_{};  ///< of the phase: 4 bytes, a length, a name of 255, a port at most
  std::size_t taken_ = 0;
  std::size_t wanted_ = 2;
  Phase phase_ = Phase::method;
  Socks5Command command_;
  HandshakeState state_ = HandshakeState::running;
};

}  // namespace limpid
