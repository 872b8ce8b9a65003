// A ClientHello out of TLS records (RFC 8446 section 5.1), however the client cut it: a record may hold a byte of it, a segment may hold
// half a record. Only a hello that is cut into records is copied, to the stack.
#include <algorithm>
#include <array>
#include <cstring>

#include "sniff/byte_reader.h"
#include "sniff/parsers.h"

namespace limpid {
namespace {

constexpr std::size_t kRecordHeaderBytes = 5;
constexpr std::size_t kHandshakeHeaderBytes = 4;
constexpr std::size_t kMostRecordBytes = 1UL << 14U;
constexpr unsigned kHandshakeRecord = 22;
constexpr unsigned kClientHello = 1;

/// The record at `at`: what there is of its fragment, and how long it will be.
struct Record {
  std::span<const std::byte> fragment;
  std::size_t length = 0;
};
enum class RecordState : std::uint8_t { complete, partial, headless, malformed };

RecordState read_record(std::span<const std::byte> bytes, std::size_t at, Record& record) noexcept {
  const auto there = bytes.subspan(at);
  const auto byte = [&](std::size_t i) { return std::to_integer<unsigned>(there[i]); };
  // Checked as they come, so that a stranger's protocol is known as such by its first bytes. SSL 3.0 and TLS up to 1.3, whose records
  // say 3.1 or 3.3; a fragment of a handshake is never empty.
  if (there.size() > 0 && byte(0) != kHandshakeRecord) return RecordState::malformed;
  if (there.size() > 1 && byte(1) != 3) return RecordState::malformed;
  if (there.size() > 2 && byte(2) > 4) return RecordState::malformed;
  if (there.size() < kRecordHeaderBytes) return RecordState::headless;
  record.length = byte(3) << 8U | byte(4);
  if (record.length == 0 || record.length > kMostRecordBytes) return RecordState::malformed;
  record.fragment = there.subspan(kRecordHeaderBytes);
  if (record.fragment.size() < record.length) return RecordState::partial;
  record.fragment = record.fragment.first(record.length);
  return RecordState::complete;
}

/// What is known of the handshake message after some of its bytes.
class HandshakeHeader {
 public:
  void add(std::span<const std::byte> fragment) noexcept {
    for (std::size_t i = 0; i < fragment.size() && known_ < kHandshakeHeaderBytes; ++i)
      header_.at(known_++) = fragment[i];
  }
  [[nodiscard]] bool other_than_client_hello() const noexcept {
    return known_ > 0 && std::to_integer<unsigned>(header_[0]) != kClientHello;
  }
  /// Of the whole message; at least its header, as long as that is not known.
  [[nodiscard]] std::size_t message_bytes() const noexcept {
    if (known_ < kHandshakeHeaderBytes) return kHandshakeHeaderBytes;
    return kHandshakeHeaderBytes + (std::to_integer<std::size_t>(header_[1]) << 16U |
                                    std::to_integer<std::size_t>(header_[2]) << 8U |
                                    std::to_integer<std::size_t>(header_[3]));
  }
  [[nodiscard]] bool known() const noexcept { return known_ == kHandshakeHeaderBytes; }

 private:
  std::array<std::byte, kHandshakeHeaderBytes> header_{};
  std::size_t known_ = 0;
};

/// The message's bytes out of its records, which are all there.
bool parse_scattered(std::span<const std::byte> bytes, std::size_t message_bytes, Sniffed& sniffed) noexcept {
  std::array<std::byte, kMostStreamBytes> message;  // NOLINT(*-member-init): filled as far as it is read
  std::size_t gathered = 0;
  for (std::size_t at = 0; gathered < message_bytes;) {
    Record record;
    read_record(bytes, at, record);
    const auto part = record.fragment.first(std::min(record.fragment.size(), message_bytes - gathered));
    std::memcpy(message.data() + gathered, part.data(), part.size());
    gathered += part.size();
    at += kRecordHeaderBytes + record.length;
  }
  return parse_client_hello(std::span(message).first(message_bytes).subspan(kHandshakeHeaderBytes), sniffed);
}

}  // namespace

SniffOutcome sniff_tls(std::span<const std::byte> bytes, Sniffed& sniffed) noexcept {
  HandshakeHeader header;
  std::size_t gathered = 0;
  for (std::size_t at = 0;;) {
    Record record;
    const auto state = read_record(bytes, at, record);
    if (state == RecordState::malformed) return doubt(sniffed, at == 0 ? Doubt::unrecognised : Doubt::malformed);
    if (state == RecordState::headless) {
      return need_bytes(sniffed, at + kRecordHeaderBytes + (header.message_bytes() - gathered));
    }
    header.add(record.fragment);
    if (header.other_than_client_hello()) return doubt(sniffed, Doubt::unrecognised);
    // The message may end within this record, even if the record does not.
    gathered += record.fragment.size();
    if (header.known() && gathered >= header.message_bytes()) {
      const bool in_first_record = at == 0;
      const bool sound =
          in_first_record ? parse_client_hello(
                                record.fragment.first(header.message_bytes()).subspan(kHandshakeHeaderBytes), sniffed)
                          : parse_scattered(bytes, header.message_bytes(), sniffed);
      return sound ? SniffOutcome::found : doubt(sniffed, Doubt::malformed);
    }
    const std::size_t missing = header.message_bytes() - gathered;
    const std::size_t missing_here = record.length - record.fragment.size();
    // Another record has a header as well. Judged for complete records, too, so that what is too long is so from the same byte on.
    const std::size_t behind = missing > missing_here ? kRecordHeaderBytes + missing - missing_here : 0;
    const std::size_t in_all =
        at + kRecordHeaderBytes + record.fragment.size() + std::min(missing, missing_here) + behind;
    if (state == RecordState::partial || in_all > kMostStreamBytes) return need_bytes(sniffed, in_all);
    at += kRecordHeaderBytes + record.length;
  }
}

}  // namespace limpid
