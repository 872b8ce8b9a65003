// HTTP/2 with prior knowledge (RFC 9113): the preface, SETTINGS, whatever a client may send before its first request, and that request's
// header block, in HEADERS and CONTINUATION. Only a block in several frames is copied, to the stack.
#include <algorithm>
#include <array>
#include <cstring>

#include "sniff/byte_reader.h"
#include "sniff/hpack.h"
#include "sniff/parsers.h"

namespace limpid {
namespace {

constexpr std::size_t kFrameHeaderBytes = 9;
/// SETTINGS_MAX_FRAME_SIZE until a server says otherwise (section 6.5.2).
constexpr std::size_t kMostFrameBytes = 1UL << 14U;

enum FrameType : std::uint8_t {
  frame_data = 0,
  frame_headers = 1,
  frame_priority = 2,
  frame_rst_stream = 3,
  frame_settings = 4,
  frame_push_promise = 5,
  frame_ping = 6,
  frame_goaway = 7,
  frame_window_update = 8,
  frame_continuation = 9,
};
constexpr unsigned kAck = 0x1;
constexpr unsigned kEndHeaders = 0x4;
constexpr unsigned kPadded = 0x8;
constexpr unsigned kPriority = 0x20;

struct Frame {
  std::size_t length = 0;
  unsigned type = 0;
  unsigned flags = 0;
  std::uint32_t stream = 0;
  std::span<const std::byte> payload;  ///< as much as there is
  [[nodiscard]] bool complete() const noexcept { return payload.size() == length; }
};

/// False: its header is not there yet.
bool read_frame(std::span<const std::byte> bytes, std::size_t at, Frame& frame) noexcept {
  ByteReader reader(bytes.subspan(at));
  frame.length = reader.number(3);
  frame.type = reader.number(1);
  frame.flags = reader.number(1);
  frame.stream = reader.number(4) & 0x7fffffffU;
  frame.payload = reader.rest().first(std::min(reader.left(), frame.length));
  return reader.ok();
}

/// Whether a client may send it before its first request (section 5.1: an idle stream takes HEADERS and PRIORITY), and in this shape.
bool is_sound(const Frame& frame) noexcept {
  if (frame.length > kMostFrameBytes) return false;
  switch (frame.type) {
    case frame_headers: return frame.stream % 2 == 1;
    case frame_priority: return frame.length == 5 && frame.stream != 0;
    case frame_settings:
      return frame.stream == 0 && ((frame.flags & kAck) != 0 ? frame.length == 0 : frame.length % 6 == 0);
    case frame_ping: return frame.stream == 0 && frame.length == 8;
    case frame_goaway: return frame.stream == 0 && frame.length >= 8;
    case frame_window_update: return frame.length == 4 && frame.stream == 0;
    case frame_data:
    case frame_rst_stream:
    case frame_push_promise:
    case frame_continuation: return false;
    default: return true;  // types that are not known are ignored (section 5.5)
  }
}

/// The part of the header block in a HEADERS frame. False: padding or priority do not fit.
bool unwrap_headers(const Frame& frame, std::span<const std::byte>& fragment) noexcept {
  ByteReader reader(frame.payload);
  const std::size_t padding = (frame.flags & kPadded) != 0 ? reader.number(1) : 0;
  if ((frame.flags & kPriority) != 0) reader.take(5);
  if (!reader.ok() || padding > reader.left()) return false;
  fragment = reader.rest().first(reader.left() - padding);
  return true;
}

/// :authority and host have to agree (section 8.3.1).
SniffOutcome name_of(std::span<const std::byte> block, Sniffed& sniffed) noexcept {
  RequestNames names;
  const Doubt block_doubt = decode_header_block(block, names);
  if (block_doubt != Doubt::none) return doubt(sniffed, block_doubt);
  if (names.authority.empty()) {
    sniffed.name = names.host;
  } else {
    if (!names.host.empty() && !(names.host == names.authority)) return doubt(sniffed, Doubt::malformed);
    sniffed.name = names.authority;
  }
  return SniffOutcome::found;
}

/// The rest of a header block: CONTINUATION frames of the same stream and nothing between them (section 6.10), from `at` on.
SniffOutcome gather(std::span<const std::byte> bytes, std::size_t at, std::uint32_t stream,
                    std::span<const std::byte> first, Sniffed& sniffed) noexcept {
  std::array<std::byte, kMostStreamBytes> block;  // NOLINT(*-member-init): filled as far as it is read
  std::memcpy(block.data(), first.data(), first.size());
  std::size_t gathered = first.size();
  while (true) {
    Frame frame;
    if (!read_frame(bytes, at, frame)) return need_bytes(sniffed, at + kFrameHeaderBytes);
    if (frame.type != frame_continuation || frame.stream != stream || frame.length > kMostFrameBytes) {
      return doubt(sniffed, Doubt::malformed);
    }
    at += kFrameHeaderBytes + frame.length;
    if (!frame.complete()) return need_bytes(sniffed, at);
    std::memcpy(block.data() + gathered, frame.payload.data(), frame.payload.size());
    gathered += frame.payload.size();
    if ((frame.flags & kEndHeaders) != 0) return name_of(std::span(block).first(gathered), sniffed);
  }
}

}  // namespace

SniffOutcome sniff_http2(std::span<const std::byte> bytes, Sniffed& sniffed) noexcept {
  // Less than the preface may still become something else.
  if (bytes.size() < kHttp2Preface.size()) return need_bytes(sniffed, bytes.size() + 1);
  bool settings_seen = false;
  for (std::size_t at = kHttp2Preface.size();;) {
    Frame frame;
    if (!read_frame(bytes, at, frame)) return need_bytes(sniffed, at + kFrameHeaderBytes);
    const bool begins_as_it_must = settings_seen || (frame.type == frame_settings && (frame.flags & kAck) == 0);
    if (!begins_as_it_must || !is_sound(frame)) return doubt(sniffed, Doubt::malformed);
    settings_seen = true;
    at += kFrameHeaderBytes + frame.length;
    if (!frame.complete()) return need_bytes(sniffed, at);
    if (frame.type != frame_headers) continue;
    std::span<const std::byte> fragment;
    if (!unwrap_headers(frame, fragment)) return doubt(sniffed, Doubt::malformed);
    if ((frame.flags & kEndHeaders) != 0) return name_of(fragment, sniffed);
    return gather(bytes, at, frame.stream, fragment, sniffed);
  }
}

}  // namespace limpid
