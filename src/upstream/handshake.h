// Handshake: what is said to an upstream before the flow's own bytes, whatever its kind. Who holds the socket sends what waits, hands over
// what arrives, and leaves in the socket what is not taken.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <variant>

#include "upstream/http_connect.h"
#include "upstream/proxy_header.h"
#include "upstream/socks4.h"
#include "upstream/socks5.h"
#include "upstream/upstream.h"

namespace limpid {

/// What the handshake tells the upstream.
struct HandshakeRequest {
  SocketAddress client;
  SocketAddress destination;
  std::string_view name;  ///< of the destination; empty: not known. One that is no host name is ignored.
  bool by_name = false;   ///< it is asked for by that name, also of an upstream that is otherwise given addresses
};

class Handshake {
 public:
  /// For a connection.
  Handshake(const Upstream& upstream, const HandshakeRequest& request);
  /// For a UDP association, of which a SOCKS5 upstream tells where datagrams go to.
  explicit Handshake(Socks5Handshake association) : kind_(std::move(association)) {}

  [[nodiscard]] std::span<const std::byte> waiting() const noexcept;
  void sent(std::size_t count) noexcept;
  [[nodiscard]] std::size_t take(std::span<const std::byte> bytes);
  [[nodiscard]] HandshakeState state() const noexcept;
  /// Whether the upstream has shown that it works, so that what is still missing may be the destination's fault.
  [[nodiscard]] bool is_past_upstream() const noexcept;
  /// Of a UDP association that is done.
  [[nodiscard]] SocketAddress bound() const noexcept;

 private:
  /// No words at all: tcp, direct.
  struct Nothing {
    [[nodiscard]] static std::span<const std::byte> waiting() noexcept { return {}; }
    static void sent(std::size_t /*count*/) noexcept {}
    [[nodiscard]] static std::size_t take(std::span<const std::byte> /*bytes*/) noexcept { return 0; }
    [[nodiscard]] static HandshakeState state() noexcept { return HandshakeState::done; }
  };
  using Kind = std::variant<Nothing, Socks5Handshake, Socks4Handshake, HttpConnectHandshake, ProxyHeader>;
  [[nodiscard]] static Kind make(const Upstream& upstream, const HandshakeRequest& request);

  Kind kind_;
};

/// Whether this kind of upstream can be asked for it at all: SOCKS4 without a name knows IPv4 only; a source of the other family is none.
/// `dialled`: the upstream's address, or the destination's.
[[nodiscard]] bool can_reach(const Upstream& upstream, const SocketAddress& dialled, const SocketAddress& destination,
                             bool has_name) noexcept;

}  // namespace limpid
