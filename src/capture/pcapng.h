// PcapngWriter: packets as a file that Wireshark, tshark and tcpdump read (draft-ietf-opsawg-pcapng). Pure: whole blocks into memory, which the caller writes. Every packet has a
// LINKTYPE_LINUX_SLL header, because a flow's legs may lie on interfaces of different kinds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "capture/packet_ring.h"

namespace limpid {

class PcapngWriter {
 public:
  /// `snaplen`: the most bytes of a packet, from its IP header on. Begins with the section header; `application` and `comment` stand in it.
  PcapngWriter(std::uint32_t snaplen, std::string_view application, std::string_view comment);

  /// A new interface; the number by which packets name it.
  std::uint32_t add_interface(std::string_view name, std::string_view description);
  /// `lost`: so many are missing in front of it.
  void add_packet(std::uint32_t interface, const SeenPacket& packet, std::uint64_t lost = 0);

  /// What was added since clear(): whole blocks.
  [[nodiscard]] std::span<const std::byte> blocks() const noexcept { return blocks_; }
  void clear() noexcept { blocks_.clear(); }

 private:
  [[nodiscard]] std::size_t begin(std::uint32_t type);
  void end(std::size_t at);
  void add8(std::uint8_t value) { blocks_.push_back(static_cast<std::byte>(value)); }
  void add16(std::uint16_t value) { add_native(&value, sizeof value); }
  void add32(std::uint32_t value) { add_native(&value, sizeof value); }
  void add_big_endian16(unsigned value);
  void add_time(std::uint64_t time_ns);
  void add_native(const void* value, std::size_t size);
  void add_bytes(std::span<const std::byte> bytes);
  void pad();
  void add_option(std::uint16_t code, std::span<const std::byte> value);
  void add_text(std::uint16_t code, std::string_view text);

  std::uint32_t snaplen_;
  std::uint32_t interfaces_ = 0;
  std::vector<std::byte> blocks_;
};

}  // namespace limpid
