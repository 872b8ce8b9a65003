// UpstreamGroup: several upstreams under one name, whose turn it is, and which of them are down. Used by all threads without locks: the
// upstreams never change, and everything that does is an atomic number, or an address that is published whole.
//
// Theory of operation. A member that fails `fall` times in a row is down and passed over. Where health is checked (`checked`), it comes back
// after `rise` checks that succeed; otherwise after kRetryMs, when it is tried again and one more failure suffices. A flow goes from member to
// member as long as nothing of it was handed over, each at most once; when none is left, the group is down for it, and what was declared for
// that case happens. What is a failure of the upstream, and what only the destination's, is decided by who dials.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "upstream/upstream.h"

namespace limpid {

enum class UpstreamChoice : std::uint8_t {
  order,          ///< the first that is up
  round_robin,    ///< each in turn
  least_latency,  ///< who was the fastest lately
  source_hash,  ///< by the client's address: the same one as long as it is up, and nobody else moves when another goes down
};
/// "order", "round-robin", "least-latency", "source-hash".
[[nodiscard]] std::string_view to_string(UpstreamChoice choice) noexcept;

/// What happens to a flow when no upstream is left for it.
enum class GroupDown : std::uint8_t { reject, direct };

/// What happens to datagrams.
enum class DatagramWay : std::uint8_t {
  upstream,  ///< through those members that carry them (SOCKS5); rejected where none does
  direct,
  reject,
};

/// Whom a check asks an upstream to connect to.
struct CheckTarget {
  SocketAddress address;
  std::string name;  ///< as it was given, if it was one
  bool operator==(const CheckTarget&) const = default;
};

struct UpstreamGroupOptions {
  std::string name;
  std::vector<Upstream> members;  ///< 1 to UpstreamGroup::kMostMembers, names resolved
  UpstreamChoice choice = UpstreamChoice::order;
  GroupDown down = GroupDown::reject;
  DatagramWay datagrams = DatagramWay::upstream;
  std::chrono::milliseconds timeout{10'000};         ///< of each step: the connection, the handshake
  std::chrono::milliseconds check_interval{10'000};  ///< 0: health is not checked
  unsigned rise = 2;
  unsigned fall = 3;
  std::optional<CheckTarget> check_target{};  ///< empty: a check asks the upstream alone
  std::string via{};                          ///< the group through which its members are reached; empty: none
  bool operator==(const UpstreamGroupOptions&) const = default;
};

/// Where a member is dialled now.
struct UpstreamServer {
  SocketAddress address;
  bool on_this_host = false;
};

struct UpstreamState {
  bool up = true;
  std::uint64_t flows = 0;       ///< that were handed over to it
  std::uint64_t failures = 0;    ///< connections and handshakes that failed through its own fault
  std::uint64_t latency_us = 0;  ///< of the connection, smoothed; 0: not known
};

class UpstreamGroup {
 public:
  static constexpr std::size_t kMostMembers = 32;
  static constexpr std::uint64_t kRetryMs = 10'000;
  /// A member for each bit.
  using Tried = std::uint32_t;

  /// `via`: the group that the options name; it outlives this one.
  explicit UpstreamGroup(UpstreamGroupOptions options, UpstreamGroup* via = nullptr);

  struct Question {
    IpAddress client;
    SocketAddress destination;
    bool has_name = false;  ///< the destination's name is known
    bool datagrams = false;
    Tried tried = 0;  ///< not again
  };
  /// Who is next; empty when none is left. `now_ms` is monotonic.
  [[nodiscard]] std::optional<unsigned> choose(const Question& question, std::uint64_t now_ms) noexcept;
  /// A handshake has succeeded. `latency_us`: what the connection took, without the handshake, which waits for the destination; 0: not known.
  void succeeded(unsigned member, std::uint64_t latency_us) noexcept;
  void failed(unsigned member, std::uint64_t now_ms) noexcept;
  void count_flow(unsigned member) noexcept;
  /// What a check found. True when that brought it up or took it down.
  bool checked(unsigned member, bool healthy, std::uint64_t latency_us) noexcept;

  [[nodiscard]] const UpstreamGroupOptions& options() const noexcept { return options_; }
  [[nodiscard]] const Upstream& member(unsigned index) const noexcept { return options_.members[index]; }
  /// The group through which members are reached; nullptr: none.
  [[nodiscard]] UpstreamGroup* via() const noexcept { return via_; }
  [[nodiscard]] UpstreamState state(unsigned index) const noexcept;
  /// Where a member is dialled now; nullptr: at each flow's own destination. Lives as long as the group.
  [[nodiscard]] const UpstreamServer* server(unsigned index) const noexcept {
    return health_[index].server.load(std::memory_order_acquire);
  }
  /// Its name means another address now. May be called from any thread. False where it was that already.
  bool move_server(unsigned index, const UpstreamServer& server);
  /// Whether checks say anything about a member.
  [[nodiscard]] bool is_checked(unsigned index) const noexcept;
  /// Takes over what is known of those members that are also in `before`, which this group is going to replace.
  void inherit(const UpstreamGroup& before) noexcept;

 private:
  struct Health {
    std::atomic<const UpstreamServer*> server{nullptr};
    std::atomic<bool> up{true};
    std::atomic<unsigned> failures_in_a_row{0};
    std::atomic<unsigned> successes_in_a_row{0};
    std::atomic<std::uint64_t> retry_ms{0};
    std::atomic<std::uint64_t> flows{0};
    std::atomic<std::uint64_t> failures{0};
    std::atomic<std::uint64_t> latency_us{0};
  };
  [[nodiscard]] bool may_take(unsigned index, const Question& question, std::uint64_t now_ms) const noexcept;
  static void note_latency(Health& health, std::uint64_t latency_us) noexcept;
  bool note_failure(Health& health, std::uint64_t now_ms) noexcept;

  UpstreamGroupOptions options_;
  UpstreamGroup* via_;
  std::mutex servers_mutex_;
  std::deque<UpstreamServer>
      servers_;  ///< all that any member has had, under the mutex: readers may still look at old ones
  std::vector<std::uint64_t> hashes_;  ///< of the members' names
  std::unique_ptr<Health[]> health_;   // NOLINT(*-avoid-c-arrays): atomics cannot move into a vector
  std::atomic<std::size_t> turn_{0};
};

}  // namespace limpid
