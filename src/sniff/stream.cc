// Which protocol's parser a stream or a datagram belongs to, by its first bytes. Nothing is tried twice: no two of the protocols begin
// with the same byte but HTTP/1 and those that look like it, HTTP/2's preface and SSH.
#include "sniff/byte_reader.h"
#include "sniff/parsers.h"
#include "sniff/quic_packet.h"

namespace limpid {
namespace {

constexpr unsigned kTlsHandshake = 22;
/// The upper byte of a DNS query's length over TCP is at most this.
constexpr unsigned kMostDnsFirstByte = 2;
constexpr std::string_view kSsh = "SSH-";

/// Whether the text is `whole`, goes on behind it, or may still become it.
bool agrees(std::string_view text, std::string_view whole) noexcept {
  return text.size() < whole.size() ? whole.starts_with(text) : text.starts_with(whole);
}

SniffOutcome sniff_as(SniffedProtocol protocol, std::span<const std::byte> bytes, Sniffed& sniffed) noexcept {
  sniffed.protocol = protocol;
  switch (protocol) {
    case SniffedProtocol::tls: return sniff_tls(bytes, sniffed);
    case SniffedProtocol::dns: return sniff_dns_stream(bytes, sniffed);
    case SniffedProtocol::http1: return sniff_http1(bytes, sniffed);
    case SniffedProtocol::http2: return sniff_http2(bytes, sniffed);
    case SniffedProtocol::ssh: return sniff_ssh(bytes, sniffed);
    case SniffedProtocol::quic:
    case SniffedProtocol::none: break;
  }
  return doubt(sniffed, Doubt::unrecognised);
}

/// What a parser has written before it gave up, or before it ran out of bytes, is no answer.
void keep_only_the_answer(SniffOutcome outcome, Sniffed& sniffed) noexcept {
  if (outcome == SniffOutcome::found) return;
  sniffed.name.clear();
  sniffed.alpn = {};
  sniffed.ech = false;
  if (sniffed.doubt == Doubt::unrecognised) sniffed.protocol = SniffedProtocol::none;
}

SniffedProtocol protocol_of(std::span<const std::byte> bytes) noexcept {
  const auto first = std::to_integer<unsigned>(bytes.front());
  if (first == kTlsHandshake) return SniffedProtocol::tls;
  if (first <= kMostDnsFirstByte) return SniffedProtocol::dns;
  const auto text = as_text(bytes);
  if (agrees(text, kHttp2Preface)) return SniffedProtocol::http2;
  if (agrees(text, kSsh)) return SniffedProtocol::ssh;
  return SniffedProtocol::http1;
}

}  // namespace

SniffOutcome sniff_stream(std::span<const std::byte> first_bytes, Sniffed& sniffed) noexcept {
  sniffed = {};
  if (first_bytes.empty()) return need_bytes(sniffed, 1);
  const auto bytes = first_bytes.first(std::min(first_bytes.size(), kMostStreamBytes));
  const auto outcome = sniff_as(protocol_of(bytes), bytes, sniffed);
  keep_only_the_answer(outcome, sniffed);
  // Which protocol an undecided stream has is not known before its answer: "P" may become HTTP/2.
  if (outcome == SniffOutcome::more) sniffed.protocol = SniffedProtocol::none;
  return outcome;
}

SniffOutcome sniff_datagram(std::span<const std::byte> datagram, Sniffed& sniffed) noexcept {
  sniffed = {};
  // A DNS query's flags and number of questions stand where QUIC has its version, and none is 1 or 0x6b3343cf there.
  if (begins_quic(datagram)) {
    sniffed.protocol = SniffedProtocol::quic;
    return SniffOutcome::more;
  }
  sniffed.protocol = SniffedProtocol::dns;
  const auto outcome = sniff_dns_datagram(datagram, sniffed);
  keep_only_the_answer(outcome, sniffed);
  return outcome;
}

}  // namespace limpid
