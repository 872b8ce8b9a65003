// The smallest rules that intercept, for tests of the kernel itself: hand-written, so that they do not depend on our
// own plan.
#pragma once

#include <string>

#include "tests/kernel/testbed.h"

namespace limpid::testbed {

inline constexpr std::uint16_t kListener = 1080;
inline constexpr std::uint16_t kServerPort = 80;

/// Packets with mark 1 are delivered locally. `spare_reverse_lookups` adds the rule that keeps look-ups with iif lo out
/// of it.
inline void route_marked_packets(const Namespace& router, bool spare_reverse_lookups = true) {
  for (const std::string family : {"-4", "-6"}) {
    router.command("iproute2", {"ip", family, "route", "add", "local", "default", "dev", "lo", "table", "100"});
    if (spare_reverse_lookups) {
      router.command("iproute2", {"ip", family, "rule", "add", "priority", "12", "nop"});
      router.command("iproute2",
                     {"ip", family, "rule", "add", "priority", "10", "iif", "lo", "fwmark", "1", "goto", "12"});
    }
    router.command("iproute2", {"ip", family, "rule", "add", "priority", "11", "fwmark", "1", "lookup", "100"});
  }
}

/// A prerouting chain at mangle priority in a table "t" of family inet.
inline void add_prerouting(const Namespace& router, const std::string& rules) {
  router.nft("table inet t {\n chain prerouting {\n  type filter hook prerouting priority mangle;\n" + rules +
             "\n }\n}\n");
}

/// Enough where nobody listens on any address.
inline const std::string kDivert = "meta l4proto tcp socket transparent 1 meta mark set 1 accept\n";
inline const std::string kTproxy =
    "meta nfproto ipv4 tcp dport 80 tproxy ip to 127.0.0.1:1080 meta mark set 1 accept\n"
    "meta nfproto ipv6 tcp dport 80 tproxy ip6 to [::1]:1080 meta mark set 1 accept\n";

}  // namespace limpid::testbed

/// Skips, with the reason, where the kernel lacks an nftables expression.
#define LIMPID_NEEDS_NFT(where, rule) \
  if (!::limpid::testbed::nft_accepts(where, rule)) GTEST_SKIP() << "this kernel does not take: " << (rule)
