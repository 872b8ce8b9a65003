// HTTP CONNECT (RFC 9110, 9.3.6) with Basic authentication (RFC 7617), as a client: bytes in, bytes out. Holds no socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "upstream/destination.h"
#include "upstream/socks5.h"

namespace limpid {

class HttpConnectHandshake {
 public:
  HttpConnectHandshake(const Credentials& credentials, const Destination& destination);

  [[nodiscard]] std::span<const std::byte> waiting() const noexcept { return outgoing_.waiting(); }
  void sent(std::size_t count) noexcept { outgoing_.sent(count); }
  /// Takes up to the end of the answer's header and nothing behind it.
  [[nodiscard]] std::size_t take(std::span<const std::byte> bytes);
  [[nodiscard]] HandshakeState state() const noexcept { return state_; }

  /// More than any proxy answers to CONNECT; interim answers count too.
  static constexpr std::size_t kMostHeaderBytes = 16384;

 private:
  enum class Place : std::uint8_t { version, status, rest_of_line };
  void take_byte(char byte);
  void end_of_header();

  Outgoing outgoing_;
  std::size_t taken_ = 0;
  std::size_t in_line_ = 0;  ///< bytes of this line so far, without a CR that may end it
  unsigned status_ = 0;
  Place place_ = Place::version;
  bool after_cr_ = false;
  bool first_line_ = true;  ///< of an answer: the one with the status
  HandshakeState state_ = HandshakeState::running;
};

}  // namespace limpid
