// A DNS query (RFC 1035 section 4): the name of its question. Strict in everything that a client's query has in common with others,
// because the only thing that tells it from another protocol's bytes is that it is a query.
#include <algorithm>
#include <array>

#include "sniff/byte_reader.h"
#include "sniff/parsers.h"

namespace limpid {
namespace {

constexpr std::size_t kHeaderBytes = 12;
constexpr std::size_t kMostLabelBytes = 63;
/// Root's label, type and class: no query is shorter than that and the header.
constexpr std::size_t kLeastQuestionBytes = 5;
/// A question of 255 bytes, padding to 128 bytes (RFC 8467), a cookie and a signature fit. It keeps a query's first byte below that of
/// other protocols: RDP has 3, SOCKS 4 and 5, HTTP/1 perhaps LF.
constexpr std::size_t kMostMessageBytes = 0x2ff;

/// QR and opcode are zero, and so are the answer's bits AA, TC, RA and RCODE; RD, AD and CD are the client's (RFC 1035 section 4.1.1,
/// RFC 4035 section 3). One question (RFC 9619), no answer, perhaps an authority (IXFR, RFC 1995), perhaps OPT and TSIG.
bool is_query_header(ByteReader& reader) noexcept {
  reader.number(2);  // id
  const std::uint32_t flags = reader.number(2);
  const std::uint32_t questions = reader.number(2);
  const std::uint32_t answers = reader.number(2);
  const std::uint32_t authorities = reader.number(2);
  const std::uint32_t additional = reader.number(2);
  return reader.ok() && (flags & ~0x0130U) == 0 && questions == 1 && answers == 0 && authorities <= 1 &&
         additional <= 2;
}

enum class Question : std::uint8_t { sound, cut, malformed };

/// Labels, type and class. A name is not compressed before there is anything to point to.
Question read_question(ByteReader& reader, Sniffed& sniffed) noexcept {
  std::array<char, HostName::kMostBytes + 2> text{};
  std::size_t used = 0;
  while (true) {
    const std::uint32_t length = reader.number(1);
    if (!reader.ok()) return Question::cut;
    if (length == 0) break;
    if (length > kMostLabelBytes) return Question::malformed;
    const auto label = reader.take(length);
    if (!reader.ok()) return Question::cut;
    if (used + length + 1 > text.size()) return Question::malformed;
    for (const std::byte byte : label) {
      // A dot within a label would look like two labels.
      if (byte == std::byte{'.'}) return Question::malformed;
      text.at(used++) = static_cast<char>(byte);
    }
    text.at(used++) = '.';
  }
  reader.take(4);
  if (!reader.ok()) return Question::cut;
  // The root has no name that a rule could mean.
  return used == 0 || sniffed.name.assign_domain({text.data(), used}) ? Question::sound : Question::malformed;
}

}  // namespace

SniffOutcome sniff_dns_datagram(std::span<const std::byte> message, Sniffed& sniffed) noexcept {
  ByteReader reader(message);
  if (!is_query_header(reader)) return doubt(sniffed, Doubt::unrecognised);
  // What is cut off in a datagram does not come any more.
  return read_question(reader, sniffed) == Question::sound ? SniffOutcome::found : doubt(sniffed, Doubt::malformed);
}

SniffOutcome sniff_dns_stream(std::span<const std::byte> bytes, Sniffed& sniffed) noexcept {
  constexpr std::size_t length_bytes = 2;
  constexpr std::size_t least = length_bytes + kHeaderBytes + kLeastQuestionBytes;
  ByteReader prefix(bytes);
  const std::size_t length = prefix.number(length_bytes);
  if (!prefix.ok()) return need_bytes(sniffed, least);
  if (length < kHeaderBytes + kLeastQuestionBytes || length > kMostMessageBytes)
    return doubt(sniffed, Doubt::unrecognised);
  ByteReader reader(prefix.rest().first(std::min(prefix.left(), length)));
  const bool all_there = prefix.left() >= length;
  if (reader.left() < kHeaderBytes) {
    // The flags are judged as soon as they are there: other protocols begin with a length, too, and then wait for an answer.
    ByteReader flags(reader.rest());
    flags.take(2);
    if (flags.left() > 0 && (flags.number(1) & ~0x01U) != 0) return doubt(sniffed, Doubt::unrecognised);
    if (flags.left() > 0 && (flags.number(1) & ~0x30U) != 0) return doubt(sniffed, Doubt::unrecognised);
    return need_bytes(sniffed, least);
  }
  if (!is_query_header(reader)) return doubt(sniffed, Doubt::unrecognised);
  switch (read_question(reader, sniffed)) {
    case Question::sound: return SniffOutcome::found;
    case Question::malformed: return doubt(sniffed, Doubt::malformed);
    case Question::cut: break;
  }
  if (all_there) return doubt(sniffed, Doubt::malformed);
  return need_bytes(sniffed, std::max(bytes.size() + 1, least));
}

}  // namespace limpid
