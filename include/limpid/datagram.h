// UDP for proxies: receive datagrams that were addressed to somebody else, with the address that they were sent to;
// answer as whoever was dialled; speak from an address that this host does not have. Nothing is allocated for a
// datagram. Sockets are non-blocking and close-on-exec; privileges and their errors are those of limpid/transparent.h,
// and RawSender needs CAP_NET_RAW.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

struct DatagramListenOptions {
  bool reuse_port =
      false;               ///< SO_REUSEPORT: one listener for each worker; a client's datagrams all come to one of them
  std::uint32_t mark = 0;  ///< SO_MARK, 0: none
};

/// A UDP socket with IP_TRANSPARENT (IPv6: IPV6_TRANSPARENT and IPV6_V6ONLY) that reports the original destination, TTL,
/// TOS and the interface of each datagram. Port 0 lets the kernel choose. On a loopback address, behind nftables' `tproxy to`, it takes
/// what is forwarded; bound to a foreign address, what is diverted to that one.
[[nodiscard]] Result<UniqueFd> listen_datagrams(const SocketAddress& local, const DatagramListenOptions& options = {});

struct DatagramSocketOptions {
  /// The foreign source; port 0: the kernel chooses, at once. Another port may be shared with any socket that allows it
  /// too (SO_REUSEADDR); EADDRINUSE says that one does not, also if it is bound to no particular address. Empty: the
  /// host's own address.
  std::optional<SocketAddress> source = std::nullopt;
  /// Set: only datagrams from there arrive (connect(2)), and only there can be sent to. Others' may arrive in the moment
  /// before.
  std::optional<SocketAddress> peer = std::nullopt;
  Family family = Family::ipv4;  ///< where neither source nor peer tells
  std::uint32_t mark = 0;        ///< SO_MARK, 0: none
  /// Leaves through it, whatever routes say, and hears what arrives there alone (SO_BINDTODEVICE); empty: as routes say.
  std::string_view interface{};
};

/// A socket that speaks to targets, transparent if it has a source. Reports ICMP errors in its error queue (IP_RECVERR);
/// lets the kernel fragment. Answers come only if packets for its address reach this host and are diverted: an
/// Interception with `scope.udp` does that for the answers of everybody.
[[nodiscard]] Result<UniqueFd> open_datagram_socket(const DatagramSocketOptions& options);

/// What an IP header says beside the addresses.
struct HopFields {
  std::uint8_t ttl = 64;           ///< hop limit in IPv6
  std::uint8_t traffic_class = 0;  ///< TOS in IPv4
  bool operator==(const HopFields&) const = default;
};

struct ReceivedDatagram {
  SocketAddress peer;                                 ///< who sent it
  std::optional<SocketAddress> original_destination;  ///< whom it was sent to; listeners only
  std::span<const std::byte> payload;
  HopFields fields;
  std::uint32_t interface = 0;  ///< index of that by which it came, 1 for loopback; listeners only, 0 where not told
};

/// An ICMP or ICMPv6 error, as far as it is passed on.
struct IcmpError {
  std::uint8_t type = 0;
  std::uint8_t code = 0;
  std::uint32_t rest = 0;  ///< the second word: the MTU of "packet too big" and "fragmentation needed"
};

/// An error from a socket's error queue: what an ICMP message said about a datagram that we had sent.
struct ReceivedIcmp {
  SocketAddress about;                ///< whom the datagram was meant for
  std::optional<IpAddress> reporter;  ///< who sent the ICMP message; empty: unknown
  IcmpError error;
  std::span<const std::byte> payload;  ///< the datagram's, as far as it was quoted
};

/// Memory for receiving; what receive() returns lives in it until the next call. 64 datagrams of any size: 4 MiB, of which
/// the kernel maps what is used.
class DatagramBatch {
 public:
  DatagramBatch();
  DatagramBatch(const DatagramBatch&) = delete;
  DatagramBatch& operator=(const DatagramBatch&) = delete;
  DatagramBatch(DatagramBatch&&) = delete;
  DatagramBatch& operator=(DatagramBatch&&) = delete;
  ~DatagramBatch();

  static constexpr std::size_t kMost = 64;

  /// What waits at `fd`, at most `most` and kMost; empty when nothing does or an error was pending, which is consumed.
  /// Never waits.
  [[nodiscard]] std::span<const ReceivedDatagram> receive(int fd, std::size_t most = kMost) noexcept;
  /// The next ICMP error of the queue; errors that are not ICMP are passed over. Empty when there is none.
  [[nodiscard]] std::optional<ReceivedIcmp> receive_error(int fd) noexcept;

 private:
  struct Memory;
  std::unique_ptr<Memory> memory_;
  std::array<ReceivedDatagram, kMost> received_;
};

/// Sends `payloads`, all to one place with the same header fields, with as few system calls as possible (UDP_SEGMENT
/// when they are of one size but for a shorter last). `to` is empty for a connected socket. Returns how many were
/// taken; errno says why not all.
[[nodiscard]] std::size_t send_datagrams(int fd, const std::optional<SocketAddress>& to, const HopFields& fields,
                                         std::span<const std::span<const std::byte>> payloads) noexcept;

/// One datagram to send as `from`.
struct SpoofedDatagram {
  SocketAddress from;
  SocketAddress to;
  std::span<const std::byte> payload;
  HopFields fields = {};
};

/// Sends datagrams with any source address, in IP headers of its own. No socket is bound to that address, so it collides
/// with no local server and takes no datagram away from a listener: what a proxy answers with. It can receive nothing.
/// One family, one thread.
class RawSender {
 public:
  /// `mark` is the bypass mark, so that a packet that comes back over loopback is not captured.
  [[nodiscard]] static Result<RawSender> open(Family family, std::uint32_t mark = 0);

  /// Sends up to kBatch datagrams in one system call; the result is how many the kernel took: the next one was refused,
  /// with errno set. Both addresses of each are of the sender's family. Datagrams too large for the way are sent in
  /// fragments.
  [[nodiscard]] std::size_t send(std::span<const SpoofedDatagram> datagrams) noexcept;
  /// A packet that is complete already, from its IP header on, to the host that it names.
  [[nodiscard]] bool send_packet(std::span<const std::byte> packet, const IpAddress& to) noexcept;

  static constexpr std::size_t kBatch = 64;

 private:
  RawSender(UniqueFd fd, Family family) noexcept : fd_(std::move(fd)), family_(family) {}
  [[nodiscard]] bool send_in_fragments(const SpoofedDatagram& datagram) noexcept;

  UniqueFd fd_;
  Family family_;
  std::uint32_t identification_ = 1;
};

}  // namespace limpid
