// Numbers are in this host's byte order, which the section header tells the reader; those of the SLL header are in network order.
#include "capture/pcapng.h"

#include <linux/if_packet.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace limpid {
namespace {

constexpr std::uint32_t kSectionHeader = 0x0a0d0d0a;
constexpr std::uint32_t kInterfaceDescription = 1;
constexpr std::uint32_t kEnhancedPacket = 6;
constexpr std::uint32_t kByteOrderMagic = 0x1a2b3c4d;
constexpr std::uint16_t kLinktypeSll = 113;
constexpr std::uint32_t kSllHeaderBytes = 16;

constexpr std::uint16_t kOptionEnd = 0;
constexpr std::uint16_t kOptionComment = 1;
constexpr std::uint16_t kSectionApplication = 4;
constexpr std::uint16_t kInterfaceName = 2;
constexpr std::uint16_t kInterfaceText = 3;
constexpr std::uint16_t kInterfaceTimeResolution = 9;
constexpr std::uint8_t kNanoseconds = 9;  ///< 10^-9
constexpr std::uint16_t kPacketFlags = 2;
constexpr std::uint32_t kInbound = 1;
constexpr std::uint32_t kOutbound = 2;
constexpr std::uint16_t kPacketsLost = 4;  ///< between this one and the one before
/// Nobody reads more; and the length of an option has sixteen bits.
constexpr std::size_t kLongestText = 4096;

}  // namespace

PcapngWriter::PcapngWriter(std::uint32_t snaplen, std::string_view application, std::string_view comment)
    : snaplen_(snaplen) {
  const auto at = begin(kSectionHeader);
  add32(kByteOrderMagic);
  add16(1);  // version 1.0
  add16(0);
  add32(0xffffffff);  // the section's length is not known
  add32(0xffffffff);
  add_text(kOptionComment, comment);
  add_text(kSectionApplication, application);
  add_option(kOptionEnd, {});
  end(at);
}

std::uint32_t PcapngWriter::add_interface(std::string_view name, std::string_view description) {
  const auto at = begin(kInterfaceDescription);
  add16(kLinktypeSll);
  add16(0);
  add32(snaplen_ + kSllHeaderBytes);
  add_text(kInterfaceName, name);
  add_text(kInterfaceText, description);
  add_option(kInterfaceTimeResolution, std::array{std::byte{kNanoseconds}});
  add_option(kOptionEnd, {});
  end(at);
  return interfaces_++;
}

void PcapngWriter::add_packet(std::uint32_t interface, const SeenPacket& packet, std::uint64_t lost) {
  const auto bytes = packet.bytes.first(std::min<std::size_t>(packet.bytes.size(), snaplen_));
  const auto at = begin(kEnhancedPacket);
  add32(interface);
  add_time(packet.time_ns);
  add32(static_cast<std::uint32_t>(bytes.size()) + kSllHeaderBytes);
  add32(packet.whole_bytes + kSllHeaderBytes);
  add_big_endian16(packet.type);
  add_big_endian16(packet.hardware);
  add_big_endian16(packet.sender_bytes);
  add_bytes(packet.sender);
  add_big_endian16(packet.protocol);
  add_bytes(bytes);
  pad();
  const std::uint32_t flags = packet.type == PACKET_OUTGOING ? kOutbound : kInbound;
  add_option(kPacketFlags, std::as_bytes(std::span(&flags, 1)));
  if (lost > 0) add_option(kPacketsLost, std::as_bytes(std::span(&lost, 1)));
  add_option(kOptionEnd, {});
  end(at);
}

/// Where the block begins.
std::size_t PcapngWriter::begin(std::uint32_t type) {
  const std::size_t at = blocks_.size();
  add32(type);
  add32(0);  // its length
  return at;
}

void PcapngWriter::end(std::size_t at) {
  const auto length = static_cast<std::uint32_t>(blocks_.size() - at + sizeof(std::uint32_t));
  add32(length);
  std::memcpy(blocks_.data() + at + sizeof(std::uint32_t), &length, sizeof length);
}

void PcapngWriter::add_big_endian16(unsigned value) {
  add8(static_cast<std::uint8_t>(value >> 8U));
  add8(static_cast<std::uint8_t>(value & 0xffU));
}

void PcapngWriter::add_time(std::uint64_t time_ns) {
  add32(static_cast<std::uint32_t>(time_ns >> 32U));
  add32(static_cast<std::uint32_t>(time_ns));
}

void PcapngWriter::add_native(const void* value, std::size_t size) {
  add_bytes({static_cast<const std::byte*>(value), size});
}

void PcapngWriter::add_bytes(std::span<const std::byte> bytes) {
  blocks_.insert(blocks_.end(), bytes.begin(), bytes.end());
}

/// Blocks are multiples of four bytes, and so is all that stands in them.
void PcapngWriter::pad() {
  blocks_.resize((blocks_.size() + 3) / 4 * 4);
}

void PcapngWriter::add_option(std::uint16_t code, std::span<const std::byte> value) {
  add16(code);
  add16(static_cast<std::uint16_t>(value.size()));
  add_bytes(value);
  pad();
}

void PcapngWriter::add_text(std::uint16_t code, std::string_view text) {
  if (!text.empty()) add_option(code, std::as_bytes(std::span(text.substr(0, kLongestText))));
}

}  // namespace limpid
