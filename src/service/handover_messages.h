// What two instances of this program say to each other when one takes over from the other, besides the records of flows (relay/handover_records.h): a packet each,
// whose first byte is the kind. Values only; hostile bytes are refused.
//
//   successor            predecessor
//   hello      →                        which version of these messages
//                        ← instance     numbers, addresses; the lock, listeners of operators
//                        ← listeners    for each worker
//   ready      →                        everything is checked that could be
//                        ← (records), counts, end            from here on the predecessor stands still
//   taken      →                        as many as were sent
//                        ← go           now they are the successor's
//                        ← farewell     the supervisor has heard of it
//   serving    →                        rules and control socket are as they are going to be
//   refuse     → or ←                   instead of any other: why not. From the predecessor: it goes on, and the successor is to end
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "intercept/plan.h"
#include "limpid/address.h"

namespace limpid {

enum class HandoverMessage : std::uint8_t {
  hello = 16,
  refuse,
  instance,
  listeners,
  ready,
  counts,
  end,
  taken,
  go,
  farewell,
  serving
};

/// The kind of a packet; empty: none of these.
[[nodiscard]] std::optional<HandoverMessage> kind_of(std::span<const std::byte> packet) noexcept;
/// One without anything else in it.
[[nodiscard]] std::vector<std::byte> plain_message(HandoverMessage kind);
[[nodiscard]] bool is_plain(std::span<const std::byte> packet, HandoverMessage kind) noexcept;

/// With kHandoverVersion.
[[nodiscard]] std::vector<std::byte> hello_message();
/// Which version it speaks; empty: it is no hello.
[[nodiscard]] std::optional<std::uint32_t> read_hello(std::span<const std::byte> packet) noexcept;

[[nodiscard]] std::vector<std::byte> refuse_message(std::string_view why);
/// Why; empty: it is no refusal.
[[nodiscard]] std::optional<std::string> read_refusal(std::span<const std::byte> packet);

/// What must be the same in both processes, and what is handed over as it is.
struct HandedInstance {
  std::string name;
  Backend backend = Backend::nftables;
  MarkField mark;
  TableId table;
  RulePriority priority;
  Port listener;
  std::uint32_t workers = 0;
  std::uint64_t cut_through = 0;  ///< as programs of cut-through know it; 0: there are none
  std::string control_path;       ///< empty: no control socket
  std::string metrics_address;    ///< as bound; empty: none
  std::string dashboard_address;  ///< likewise
  /// Descriptors: the lock, and one for each that is not empty.
  [[nodiscard]] std::size_t descriptors() const noexcept {
    return 1U + (control_path.empty() ? 0U : 1U) + (metrics_address.empty() ? 0U : 1U) +
           (dashboard_address.empty() ? 0U : 1U);
  }
};
[[nodiscard]] std::vector<std::byte> instance_message(const HandedInstance& instance);
[[nodiscard]] std::optional<HandedInstance> read_instance(std::span<const std::byte> packet);

/// How many of a worker's listeners, of TCP and then of UDP, come with the packet.
struct HandedListeners {
  std::uint16_t worker = 0;
  std::uint8_t tcp = 0;
  std::uint8_t udp = 0;
};
[[nodiscard]] std::vector<std::byte> listeners_message(const HandedListeners& listeners);
[[nodiscard]] std::optional<HandedListeners> read_listeners(std::span<const std::byte> packet) noexcept;

/// Counters by name.
struct HandedCounts {
  std::vector<std::pair<std::string, std::uint64_t>> counters;
  std::uint64_t sessions_without_us = 0;  ///< of them: UDP that is forwarded past us
};
[[nodiscard]] std::vector<std::byte> counts_message(const HandedCounts& counts);
[[nodiscard]] std::optional<HandedCounts> read_counts(std::span<const std::byte> packet);

/// `kind`: end or taken.
struct HandedTotals {
  std::uint64_t flows = 0;
  std::uint64_t sessions = 0;
  bool operator==(const HandedTotals&) const = default;
};
[[nodiscard]] std::vector<std::byte> totals_message(HandoverMessage kind, const HandedTotals& totals);
[[nodiscard]] std::optional<HandedTotals> read_totals(std::span<const std::byte> packet, HandoverMessage kind) noexcept;

}  // namespace limpid
