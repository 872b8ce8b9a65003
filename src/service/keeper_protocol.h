// What the process that relays and the one that keeps the rules say to each other: one packet an order, one packet an answer, all of bounded size. Nothing in an
// order can say what the rules are: the keeper knows that itself. Pure, but for receive_reply(), send_report() and receive_report().
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "limpid/error.h"
#include "net/descriptor_channel.h"

namespace limpid {

/// All that can be asked for. A number that is none of these is refused.
enum class KeeperOrder : std::uint8_t {
  install = 1,      ///< the plan that both have made at the start
  reload = 2,       ///< read the configuration, and put what it says into the kernel
  begin_drain = 3,  ///< stop capturing new connections
  remove = 4,       ///< take away what is ours; the keeper ends
  start_successor =
      5,  ///< start the program anew (`limpid upgrade`), with the kSuccessorDescriptors descriptors that come along; the rules are not watched meanwhile
  end_successor = 6,  ///< it is not to take over: see to its end
  leave = 7,          ///< it has taken over: the rules are its keeper's
};

struct KeeperRequest {
  KeeperOrder order = KeeperOrder::install;
  /// reload: digest of the plan that the asker has made of the configuration. end_successor: milliseconds that it has for ending by itself, at most
  /// kMostPatienceMs. Otherwise 0.
  std::uint64_t value = 0;
  std::uint16_t sequence = 0;  ///< the answer has the same one
  friend bool operator==(const KeeperRequest&, const KeeperRequest&) = default;
};

inline constexpr std::size_t kKeeperRequestBytes = 16;
/// The channel, and what are to be the successor's standard input, output and error output.
inline constexpr std::size_t kSuccessorDescriptors = 4;
inline constexpr std::uint64_t kMostPatienceMs = 10'000;
/// An answer is cut to this.
inline constexpr std::size_t kMostKeeperReplyBytes = 32768;
/// A report of the doctor may be this long.
inline constexpr std::size_t kMostReportBytes = std::size_t{16} << 20U;

[[nodiscard]] std::string encode(const KeeperRequest& request);
/// Empty: not a request, whatever else it may be.
[[nodiscard]] std::optional<KeeperRequest> decode_request(std::string_view packet);

struct KeeperReply {
  Status outcome{};
  bool flag = false;         ///< install: changes by others are noticed. reload: the kernel's rules have changed
  std::uint64_t number = 0;  ///< start_successor: its process id
  std::string text{};        ///< end_successor: how it ended, in words
  std::uint16_t sequence = 0;
};

[[nodiscard]] std::string encode(const KeeperReply& reply);
/// The error says so where the packet is none.
[[nodiscard]] KeeperReply decode_reply(std::string_view packet);
/// The answer to the order of that number. Others are dropped: they are late, and nobody waits for them any more. Error::code as of DescriptorChannel::receive().
[[nodiscard]] Result<KeeperReply> receive_reply(const DescriptorChannel& channel, std::uint16_t sequence,
                                                DescriptorChannel::Deadline deadline);

/// A number for a text, by which two processes see that they mean the same one. Not for secrets (FNV-1a, 64 bits).
[[nodiscard]] std::uint64_t digest_of(std::string_view text) noexcept;

/// What asks for an examination.
struct DoctorRequest {
  std::uint8_t depth = 0;     ///< DoctorRuns::Depth
  std::uint8_t sequence = 0;  ///< the report has the same one
};
static_assert(sizeof(DoctorRequest) == 2, "it is sent as it is");

/// Sends a text or an error in packets over a SOCK_SEQPACKET socket; gives up where nobody reads.
void send_report(int channel, std::uint8_t sequence, const Result<std::string>& report);
/// The same text; what comes for another number is dropped. An error also when `stop` becomes readable, when the other side ends, when the text is longer than
/// kMostReportBytes, or at the deadline.
[[nodiscard]] Result<std::string> receive_report(int channel, std::uint8_t sequence, int stop,
                                                 DescriptorChannel::Deadline deadline);

}  // namespace limpid
