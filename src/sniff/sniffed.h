// What a flow's first bytes say, as a value of fixed size: protocol, name, ALPN, ECH. Filled by sniff_stream(), sniff_datagram() and
// QuicSniffer; read by whoever decides about the flow. It holds no byte that could act in a log or a rule.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "sniff/host_name.h"

namespace limpid {

enum class SniffedProtocol : std::uint8_t { none, tls, http1, http2, quic, ssh, dns };
[[nodiscard]] std::string_view to_string(SniffedProtocol protocol) noexcept;

enum class SniffOutcome : std::uint8_t {
  found,    ///< the protocol is known; its name is there, or the client gave none
  more,     ///< undecided: ask again with more bytes
  unknown,  ///< it will not be known, whatever follows; Sniffed::doubt says why
};
[[nodiscard]] std::string_view to_string(SniffOutcome outcome) noexcept;

/// Why the outcome is unknown.
enum class Doubt : std::uint8_t {
  none,
  unrecognised,  ///< none of the protocols that are looked for
  malformed,     ///< one of them, with something in it that receivers refuse or read in different ways
  too_long,      ///< one of them, with more before the name than is looked at
};
[[nodiscard]] std::string_view to_string(Doubt doubt) noexcept;

/// The protocols that a ClientHello offers for what TLS carries (RFC 7301), in its order. Ids with other bytes than letters, digits and
/// "./-_+" are left out: those of GREASE are such (RFC 8701), and so is anything hostile. So is what there is no room for.
class AlpnList {
 public:
  static constexpr std::size_t kMostBytes = 62;

  /// False where the id is left out.
  bool add(std::string_view id) noexcept;
  [[nodiscard]] bool contains(std::string_view id) const noexcept;
  [[nodiscard]] bool empty() const noexcept { return used_ == 0; }
  /// Whether there were such ids without room.
  [[nodiscard]] bool truncated() const noexcept { return truncated_; }
  /// The ids, separated by commas. No id contains one.
  [[nodiscard]] std::string_view view() const noexcept { return {text_.data(), used_}; }
  friend bool operator==(const AlpnList& one, const AlpnList& other) noexcept { return one.view() == other.view(); }

 private:
  std::array<char, kMostBytes> text_{};
  std::uint8_t used_ = 0;
  bool truncated_ = false;
};

struct Sniffed {
  HostName name;  ///< none unless the outcome is found
  AlpnList alpn;  ///< TLS and QUIC
  SniffedProtocol protocol = SniffedProtocol::none;
  Doubt doubt = Doubt::none;  ///< where the outcome is unknown
  /// TLS and QUIC: there is an encrypted_client_hello extension (RFC 9849). Then `name` may be that of a front server; with GREASE ECH it
  /// is the true one, and nobody but the server can tell which.
  bool ech = false;
  /// Where the outcome is more, of a stream: fewer bytes than these in all cannot make it found. Fit for SO_RCVLOWAT.
  std::uint32_t bytes_needed = 0;
};
static_assert(sizeof(Sniffed) <= 328);  // on the stack of the worker, for each flow at its beginning
static_assert(std::is_trivially_copyable_v<Sniffed>);

/// How much of a stream is looked at: what servers accept before the end of a request's head (nginx: four buffers of 8 KiB), many times
/// a post-quantum ClientHello. What has given no answer by then is unknown.
constexpr std::size_t kMostStreamBytes = 32UL * 1024;

/// What the client of a TCP connection has sent so far, or the beginning of it: nothing is kept from one call to the next, nothing is
/// allocated, and the time is linear in the number of bytes. The answer does not depend on how many bytes came at once: each part
/// of a stream gives either `more` or what the whole gives.
[[nodiscard]] SniffOutcome sniff_stream(std::span<const std::byte> first_bytes, Sniffed& sniffed) noexcept;

/// The first datagram of a UDP session. `more` with SniffedProtocol::quic: it belongs to a QUIC handshake; give it, and those that follow,
/// to a QuicSniffer.
[[nodiscard]] SniffOutcome sniff_datagram(std::span<const std::byte> datagram, Sniffed& sniffed) noexcept;

}  // namespace limpid
