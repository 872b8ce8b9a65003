// What the process that relays and the one that keeps the rules say to each other: one packet an order, one packet an answer, all of bounded size. Nothing in an
// order can say what the rules are: the keeper knows that itself. Pure, but for send_report() and receive_report().
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "limpid/error.h"

namespace limpid {

/// All that can be asked for. A number that is none of these is refused.
enum class KeeperOrder : std::uint8_t {
  install = 1,      ///< the plan that both have made at the start
  reload = 2,       ///< read the configuration, and put what it says into the kernel
  begin_drain = 3,  ///< stop capturing new connections
  remove = 4,       ///< take away what is ours; the keeper ends
};

struct KeeperRequest {
  KeeperOrder order = KeeperOrder::install;
  std::uint64_t digest = 0;  ///< reload: of the plan that the asker has made of the configuration; otherwise 0
  friend bool operator==(const KeeperRequest&, const KeeperRequest&) = default;
};

inline constexpr std::size_t kKeeperRequestBytes = 16;
/// An answer is cut to this.
inline constexpr std::size_t kMostKeeperReplyBytes = 32768;
/// A report of the doctor may be this long.
inline constexpr std::size_t kMostReportBytes = std::size_t{16} << 20U;

[[nodiscard]] std::string encode(const KeeperRequest& request);
/// Empty: not a request, whatever else it may be.
[[nodiscard]] std::optional<KeeperRequest> decode_request(std::string_view packet);

struct KeeperReply {
  Status outcome{};
  bool flag = false;  ///< install: changes by others are noticed. reload: the kernel's rules have changed
};

[[nodiscard]] std::string encode(const KeeperReply& reply);
/// The error says so where the packet is none.
[[nodiscard]] KeeperReply decode_reply(std::string_view packet);

/// A number for a text, by which two processes see that they mean the same one. Not for secrets (FNV-1a, 64 bits).
[[nodiscard]] std::uint64_t digest_of(std::string_view text) noexcept;

/// Sends a text or an error in packets over a SOCK_SEQPACKET socket; gives up where nobody reads.
void send_report(int channel, const Result<std::string>& report);
/// The same text. An error also when `stop` becomes readable, when the other side ends, or when it is longer than kMostReportBytes.
[[nodiscard]] Result<std::string> receive_report(int channel, int stop);

}  // namespace limpid
