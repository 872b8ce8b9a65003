// What to do with a new flow, decided from values alone: no sockets, no clock. Pure but for whose turn it is in a TargetList.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "limpid/address.h"
#include "policy/leg_options.h"
#include "policy/target_list.h"

namespace limpid {

/// What a flow looks like before anything is known of its contents.
struct FlowKey {
  SocketAddress client;
  SocketAddress original_destination;
};

/// Which source address the target sees.
enum class SourceMode : std::uint8_t {
  none,              ///< the host's own
  address,           ///< the client's address, another port
  address_and_port,  ///< the client's address and port, or no connection
  prefer_port,       ///< the client's address, and its port where that is free
};

/// "none", "address", "address+port", "prefer-port".
[[nodiscard]] std::string_view to_string(SourceMode mode) noexcept;
/// Whether the target may see the client's own port: with it, both legs have one 5-tuple.
[[nodiscard]] constexpr bool keeps_port(SourceMode mode) noexcept {
  return mode == SourceMode::address_and_port || mode == SourceMode::prefer_port;
}

enum class Refusal : std::uint8_t {
  direct,            ///< it reached our listener without having been intercepted
  self,              ///< the target is one of our own listeners
  forbidden_target,  ///< loopback, link-local, multicast or unspecified original destination
  unresolved_name    ///< it is to go where its name leads, and that leads nowhere
};
[[nodiscard]] std::string_view to_string(Refusal reason) noexcept;

struct Dial {
  SocketAddress target;
  SourceMode source = SourceMode::address;
  bool source_family_differs = false;       ///< IPv4 client, IPv6 target or the reverse: the source cannot be kept
  std::uint16_t upstream = 0;               ///< number of the group of upstreams that it goes through; 0: none
  std::shared_ptr<const LegOptions> leg{};  ///< as a rule says; nullptr: as usual
};

struct Decision {
  std::optional<Refusal> refusal;  ///< set: reset the client
  Dial dial;                       ///< meant only without refusal
};

/// How connections come to our listeners.
enum class Arrival : std::uint8_t {
  intercepted,  ///< dialled elsewhere: one that was dialled to a listener itself has no destination and is refused
  direct,       ///< dialled to us: one that was dialled to a target of ours is our own, and went in a circle
  either,       ///< others' rules may hand us connections, to our own targets as well
};

struct PolicyOptions {
  std::optional<SocketAddress> fixed_target;  ///< empty: the original destination
  /// Several fixed targets, which may change; before `fixed_target`. nullptr: none.
  std::shared_ptr<TargetList> targets{};
  Arrival arrival = Arrival::intercepted;
  SourceMode source = SourceMode::address;
  std::vector<SocketAddress> listeners;  ///< our own, as bound
  /// For every flow, as in Dial; a reload may change it. nullptr: none.
  std::shared_ptr<const std::atomic<std::uint16_t>> upstream{};
};

/// Immutable; shared by all workers, replaced whole.
class Policy {
 public:
  explicit Policy(PolicyOptions options) : options_(std::move(options)) {}
  [[nodiscard]] Decision decide(const FlowKey& key) const noexcept;
  /// The same for a flow that a rule sends to `target`.
  [[nodiscard]] Decision decide_to(const FlowKey& key, const Target& target) const noexcept;
  /// True when every flow goes to one configured place instead of its original destination.
  [[nodiscard]] bool has_fixed_target() const noexcept { return options_.targets || options_.fixed_target; }
  [[nodiscard]] bool is_own_listener(const SocketAddress& address) const noexcept;
  /// Where to go on when `failed`, the latest of `attempts` attempts of this client's, was in vain. Empty: nowhere.
  [[nodiscard]] std::optional<Dial> next_dial(const SocketAddress& client, const SocketAddress& failed,
                                              unsigned attempts) const noexcept;

 private:
  [[nodiscard]] Decision decide_by_list(const FlowKey& key) const noexcept;
  [[nodiscard]] Dial dial_to(const Target& target, const SocketAddress& client) const noexcept;
  PolicyOptions options_;
};

}  // namespace limpid
