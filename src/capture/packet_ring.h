// PacketRing: an AF_PACKET socket that sees the packets of every interface of this network namespace that a filter accepts, through a ring that the kernel writes and we read
// (packet(7), TPACKET_V3). Nothing is left in the kernel when it closes, however the process ends.
#pragma once

#include <linux/filter.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// As seen on one interface. From the IP header on.
struct SeenPacket {
  std::span<const std::byte> bytes;  ///< as many as the filter accepts; valid during the call that shows them
  std::uint32_t whole_bytes = 0;     ///< of the packet
  std::uint64_t time_ns = 0;         ///< wall clock, since the epoch
  int interface = 0;
  std::uint8_t type = 0;              ///< PACKET_HOST, PACKET_OUTGOING, … (packet(7))
  std::uint16_t hardware = 0;         ///< ARPHRD_ETHER, …
  std::uint16_t protocol = 0;         ///< ETH_P_IP or ETH_P_IPV6
  std::array<std::byte, 8> sender{};  ///< its link-layer address
  std::uint8_t sender_bytes = 0;
};

class PacketRing {
 public:
  /// Sees what `filter` accepts from now on. Without CAP_NET_RAW an error of kind `unsupported`, with what to do about it.
  [[nodiscard]] static Result<PacketRing> open(std::span<const sock_filter> filter);
  PacketRing(PacketRing&& other) noexcept;
  PacketRing& operator=(PacketRing&&) = delete;
  PacketRing(const PacketRing&) = delete;
  PacketRing& operator=(const PacketRing&) = delete;
  ~PacketRing();

  /// Another filter instead.
  [[nodiscard]] Status set_filter(std::span<const sock_filter> filter);
  /// Readable when packets wait: within kDelay after they came.
  [[nodiscard]] int descriptor() const noexcept { return fd_.get(); }
  /// Shows those that wait, until `use` returns false.
  void read(const std::function<bool(const SeenPacket&)>& use);
  /// So many were accepted since the last call and found no room.
  [[nodiscard]] std::uint64_t take_losses();

  static constexpr unsigned kDelayMs = 50;

 private:
  explicit PacketRing(UniqueFd fd) : fd_(std::move(fd)) {}
  [[nodiscard]] Status map();

  UniqueFd fd_;
  std::span<std::byte> ring_;
  std::size_t next_block_ = 0;
};

}  // namespace limpid
