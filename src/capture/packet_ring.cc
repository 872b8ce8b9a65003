// Blocks go from the kernel to us when they are full or kDelayMs old, and back when we have read them.
#include "capture/packet_ring.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

namespace limpid {
namespace {

/// A packet never spans two blocks; the largest that there are, with BIG TCP, have half a megabyte.
constexpr std::size_t kBlockBytes = std::size_t{2} << 20U;
constexpr std::size_t kBlocks = 16;
constexpr std::size_t kFrameBytes = 2048;  ///< only has to divide the block, in this version

std::unexpected<Error> no_right(int code) {
  if (code == EPERM || code == EACCES)
    return unsupported("capture", "packet socket", "needs CAP_NET_RAW",
                       "run it as root: sudo limpid flows capture ...");
  return system_error(code, "open", "packet socket",
                      code == EAFNOSUPPORT ? "this kernel has no AF_PACKET (CONFIG_PACKET)" : "");
}

/// Behind the header (packet_mmap.rst).
constexpr std::size_t kAlignment = TPACKET_ALIGNMENT;
constexpr std::size_t kAddressAt = (sizeof(tpacket3_hdr) + kAlignment - 1) / kAlignment * kAlignment;

/// What the kernel and we both write: the block belongs to one of us at a time.
std::uint32_t status_of(tpacket_block_desc& block) {
  return std::atomic_ref(block.hdr.bh1.block_status).load(std::memory_order_acquire);
}

SeenPacket packet_at(std::byte* frame) {
  tpacket3_hdr header{};
  std::memcpy(&header, frame, sizeof header);
  sockaddr_ll link{};
  std::memcpy(&link, frame + kAddressAt, sizeof link);
  SeenPacket packet{.bytes = {frame + header.tp_net, header.tp_snaplen},
                    .whole_bytes = header.tp_len,
                    .time_ns = std::uint64_t{header.tp_sec} * 1'000'000'000 + header.tp_nsec,
                    .interface = link.sll_ifindex,
                    .type = link.sll_pkttype,
                    .hardware = link.sll_hatype,
                    .protocol = ntohs(link.sll_protocol)};
  packet.sender_bytes = std::min<std::uint8_t>(link.sll_halen, packet.sender.size());
  std::memcpy(packet.sender.data(), link.sll_addr, packet.sender.size());
  return packet;
}

}  // namespace

PacketRing::PacketRing(PacketRing&& other) noexcept
    : fd_(std::move(other.fd_)), ring_(std::exchange(other.ring_, {})), next_block_(other.next_block_) {}

PacketRing::~PacketRing() {
  if (!ring_.empty()) munmap(ring_.data(), ring_.size());
}

Result<PacketRing> PacketRing::open(std::span<const sock_filter> filter) {
  // Protocol 0: nothing is seen before the filter is there.
  UniqueFd fd(::socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return no_right(errno);
  PacketRing ring(std::move(fd));
  if (auto set = ring.set_filter(filter); !set) return std::unexpected(set.error());
  if (auto mapped = ring.map(); !mapped) return std::unexpected(mapped.error());
  sockaddr_ll everywhere{};
  everywhere.sll_family = AF_PACKET;
  everywhere.sll_protocol = htons(ETH_P_ALL);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): what bind(2) asks for
  if (bind(ring.fd_.get(), reinterpret_cast<const sockaddr*>(&everywhere), sizeof everywhere) != 0)
    return system_error(errno, "bind", "packet socket");
  return ring;
}

Status PacketRing::set_filter(std::span<const sock_filter> filter) {
  // The kernel only reads; its structure just does not say so.
  const sock_fprog program{.len = static_cast<std::uint16_t>(filter.size()),
                           .filter = const_cast<sock_filter*>(filter.data())};  // NOLINT(*-const-cast)
  if (setsockopt(fd_.get(), SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) != 0)
    return system_error(errno, "set", "packet filter");
  return {};
}

Status PacketRing::map() {
  const int version = TPACKET_V3;
  if (setsockopt(fd_.get(), SOL_PACKET, PACKET_VERSION, &version, sizeof version) != 0)
    return system_error(errno, "set", "PACKET_VERSION");
  const tpacket_req3 request{.tp_block_size = kBlockBytes,
                             .tp_block_nr = kBlocks,
                             .tp_frame_size = kFrameBytes,
                             .tp_frame_nr = kBlockBytes / kFrameBytes * kBlocks,
                             .tp_retire_blk_tov = kDelayMs,
                             .tp_sizeof_priv = 0,
                             .tp_feature_req_word = 0};
  if (setsockopt(fd_.get(), SOL_PACKET, PACKET_RX_RING, &request, sizeof request) != 0)
    return system_error(errno, "set", "PACKET_RX_RING");
  void* const memory = mmap(nullptr, kBlockBytes * kBlocks, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (memory == MAP_FAILED) return system_error(errno, "map", "packet ring");
  ring_ = {static_cast<std::byte*>(memory), kBlockBytes * kBlocks};
  return {};
}

void PacketRing::read(const std::function<bool(const SeenPacket&)>& use) {
  for (std::size_t looked = 0; looked < kBlocks; ++looked) {
    std::byte* const memory = ring_.data() + next_block_ * kBlockBytes;
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the kernel lays it out so (packet_mmap.rst)
    auto& block = *reinterpret_cast<tpacket_block_desc*>(memory);
    if ((status_of(block) & TP_STATUS_USER) == 0) return;
    std::byte* frame = memory + block.hdr.bh1.offset_to_first_pkt;
    bool wanted = true;
    for (std::uint32_t i = 0; i < block.hdr.bh1.num_pkts && wanted; ++i) {
      wanted = use(packet_at(frame));
      std::uint32_t offset = 0;
      std::memcpy(&offset, frame, sizeof offset);  // tp_next_offset
      frame += offset;
    }
    std::atomic_ref(block.hdr.bh1.block_status).store(TP_STATUS_KERNEL, std::memory_order_release);
    next_block_ = (next_block_ + 1) % kBlocks;
    if (!wanted) return;
  }
}

std::uint64_t PacketRing::take_losses() {
  tpacket_stats_v3 statistics{};
  socklen_t length = sizeof statistics;
  return getsockopt(fd_.get(), SOL_PACKET, PACKET_STATISTICS, &statistics, &length) == 0 ? statistics.tp_drops : 0;
}

}  // namespace limpid
