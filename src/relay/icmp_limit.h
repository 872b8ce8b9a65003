// IcmpLimit: how many ICMP errors a worker writes itself. The kernel limits its own (net.ipv4.icmp_ratelimit) but not
// those that leave through a raw socket. One thread, no locks, no allocation.
#pragma once

#include <array>
#include <cstdint>

#include "limpid/address.h"

namespace limpid {

/// Milliseconds between two errors to one host, after a burst of six; 0: no limit for single hosts.
struct IcmpIntervals {
  std::uint64_t ipv4_ms = 1000;
  std::uint64_t ipv6_ms = 1000;
};

/// What this network namespace's sysctls say: net.ipv4.icmp_ratelimit and net.ipv6.icmp.ratelimit.
[[nodiscard]] IcmpIntervals read_icmp_intervals();

/// As the kernel's inet_peer_xrlim_allow() and icmp_global_allow(): a bucket of tokens for each receiver, of which there
/// is a fixed number (hosts whose addresses collide share one), and one for all, 1,000 a second after a burst of 50.
class IcmpLimit {
 public:
  /// `seed` must not be known to clients: it keeps them from choosing addresses that share another one's bucket.
  IcmpLimit(const IcmpIntervals& intervals, std::uint64_t seed) noexcept;

  /// True, and the tokens are gone, when an error may be sent to `to`. `now_ms` never runs backwards.
  [[nodiscard]] bool allow(const IpAddress& to, std::uint64_t now_ms) noexcept;

 private:
  struct Bucket {
    std::uint64_t last_ms = 0;
    std::uint64_t tokens_ms = 0;
    bool used = false;
    [[nodiscard]] bool has_token(std::uint64_t interval_ms, std::uint64_t burst, std::uint64_t now_ms) noexcept;
  };
  IcmpIntervals intervals_;
  std::uint64_t seed_;
  Bucket all_;
  std::array<Bucket, 256> hosts_;
};

}  // namespace limpid
