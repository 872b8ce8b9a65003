// The parsers behind sniff_stream() and sniff_datagram(), one for each protocol, each in a file of its name. Each gets at most
// kMostStreamBytes and a fresh Sniffed with the protocol in it; Found, More and Unknown are the only things it says.
#pragma once

#include <cstddef>
#include <span>

#include "sniff/sniffed.h"

namespace limpid {

/// TLS records with a ClientHello in them.
[[nodiscard]] SniffOutcome sniff_tls(std::span<const std::byte> bytes, Sniffed& sniffed) noexcept;
/// The body of a ClientHello, whole and contiguous, behind the four bytes of the handshake header. False: malformed.
[[nodiscard]] bool parse_client_hello(std::span<const std::byte> body, Sniffed& sniffed) noexcept;
/// The head of an HTTP/1 request.
[[nodiscard]] SniffOutcome sniff_http1(std::span<const std::byte> bytes, Sniffed& sniffed) noexcept;
/// HTTP/2 with prior knowledge, from the preface on.
[[nodiscard]] SniffOutcome sniff_http2(std::span<const std::byte> bytes, Sniffed& sniffed) noexcept;
/// What every HTTP/2 connection begins with (RFC 9113 section 3.4).
constexpr std::string_view kHttp2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An SSH client's identification.
[[nodiscard]] SniffOutcome sniff_ssh(std::span<const std::byte> bytes, Sniffed& sniffed) noexcept;
/// A DNS query behind its length (RFC 1035 section 4.2.2).
[[nodiscard]] SniffOutcome sniff_dns_stream(std::span<const std::byte> bytes, Sniffed& sniffed) noexcept;
/// A DNS query that is a whole datagram.
[[nodiscard]] SniffOutcome sniff_dns_datagram(std::span<const std::byte> message, Sniffed& sniffed) noexcept;

/// Of a request: no server takes as many, and it bounds what a call costs. Browsers cut a cookie into its crumbs for HTTP/2.
constexpr unsigned kMostFields = 512;

/// The three answers of a parser.
[[nodiscard]] inline SniffOutcome need_bytes(Sniffed& sniffed, std::size_t in_all) noexcept {
  if (in_all > kMostStreamBytes) {
    sniffed.doubt = Doubt::too_long;
    return SniffOutcome::unknown;
  }
  sniffed.bytes_needed = static_cast<std::uint32_t>(in_all);
  return SniffOutcome::more;
}
[[nodiscard]] inline SniffOutcome doubt(Sniffed& sniffed, Doubt why) noexcept {
  sniffed.doubt = why;
  return SniffOutcome::unknown;
}

}  // namespace limpid
