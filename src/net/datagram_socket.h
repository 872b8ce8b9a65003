// UDP sockets of both kinds that a transparent relay needs, and batches of datagrams with what their control messages
// say.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "net/packet.h"

struct msghdr;

namespace limpid {

/// A transparent UDP socket that reports the original destination of each datagram, its TTL and TOS. Non-blocking.
[[nodiscard]] Result<UniqueFd> open_datagram_listener(const SocketAddress& local, std::uint32_t mark, bool reuse_port);

struct DatagramLegOptions {
  /// The foreign source; port 0: the kernel chooses. Empty: the host's own address.
  std::optional<SocketAddress> source;
  /// Set: only datagrams from there arrive (connect(2)), and only there can be sent to.
  std::optional<SocketAddress> peer;
  Family family = Family::ipv4;
  std::uint32_t mark = 0;
};

/// The socket on which Limpid speaks to targets. Reports ICMP errors in its error queue (IP_RECVERR); lets the kernel
/// fragment.
[[nodiscard]] Result<UniqueFd> open_datagram_leg(const DatagramLegOptions& options);

/// The address of this host that the kernel would choose as source towards `to`. Empty where there is no way.
[[nodiscard]] std::optional<IpAddress> source_towards(const SocketAddress& to, std::uint32_t mark) noexcept;

struct ReceivedDatagram {
  SocketAddress peer;
  std::optional<SocketAddress> original_destination;  ///< listeners only
  std::span<const std::byte> payload;
  HopFields fields;
};

/// An error from a socket's error queue: what an ICMP message said about a datagram that we had sent.
struct ReceivedIcmp {
  SocketAddress about;                ///< whom the datagram was meant for
  std::optional<IpAddress> reporter;  ///< who sent the ICMP message; empty: unknown
  IcmpError error;
  std::span<const std::byte> payload;  ///< the datagram's, as far as it was quoted
};

/// Memory for receiving; what receive() returns lives in it until the next call. 4 MiB: 64 datagrams of any size.
class DatagramBatch {
 public:
  DatagramBatch();
  DatagramBatch(const DatagramBatch&) = delete;
  DatagramBatch& operator=(const DatagramBatch&) = delete;
  DatagramBatch(DatagramBatch&&) = delete;
  DatagramBatch& operator=(DatagramBatch&&) = delete;
  ~DatagramBatch();

  static constexpr std::size_t kMost = 64;

  /// What waits at `fd`, at most kMost; empty when nothing does or an error was pending, which is consumed.
  [[nodiscard]] std::span<const ReceivedDatagram> receive(int fd) noexcept;
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

}  // namespace limpid
