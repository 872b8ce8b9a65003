// What to do with a new flow, decided from values alone. Pure: no sockets, no clock.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "limpid/address.h"

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

enum class Refusal : std::uint8_t {
  direct,           ///< it reached our listener without having been intercepted
  self,             ///< the target is one of our own listeners
  forbidden_target  ///< loopback, link-local, multicast or unspecified original destination
};
[[nodiscard]] std::string_view to_string(Refusal reason) noexcept;

struct Dial {
  SocketAddress target;
  SourceMode source = SourceMode::address;
  bool source_family_differs = false;  ///< IPv4 client, IPv6 target or the reverse: the source cannot be kept
};

struct Decision {
  std::optional<Refusal> refusal;  ///< set: reset the client
  Dial dial;                       ///< meant only without refusal
};

struct PolicyOptions {
  std::optional<SocketAddress> fixed_target;  ///< empty: the original destination
  SourceMode source = SourceMode::address;
  std::vector<SocketAddress> listeners;  ///< our own, as bound
};

/// Immutable; shared by all workers, replaced whole.
class Policy {
 public:
  explicit Policy(PolicyOptions options) : options_(std::move(options)) {}
  [[nodiscard]] Decision decide(const FlowKey& key) const noexcept;
  /// True when every flow goes to one configured place instead of its original destination.
  [[nodiscard]] bool has_fixed_target() const noexcept { return options_.fixed_target.has_value(); }

 private:
  [[nodiscard]] bool is_own_listener(const SocketAddress& address) const noexcept;
  PolicyOptions options_;
};

}  // namespace limpid
