// The decision for a new flow. Today: the original destination or one fixed target, never ourselves.
#include "policy/decision.h"

#include <algorithm>

namespace limpid {

std::string_view to_string(SourceMode mode) noexcept {
  switch (mode) {
    case SourceMode::none: return "none";
    case SourceMode::address: return "address";
    case SourceMode::address_and_port: return "address+port";
    case SourceMode::prefer_port: return "prefer-port";
  }
  return "";
}

std::string_view to_string(Refusal reason) noexcept {
  switch (reason) {
    case Refusal::direct: return "direct";
    case Refusal::self: return "self";
    case Refusal::forbidden_target: return "forbidden_target";
  }
  return "";
}

bool Policy::is_own_listener(const SocketAddress& address) const noexcept {
  return std::ranges::any_of(options_.listeners, [&](const SocketAddress& listener) {
    // 0.0.0.0 and :: as a target mean this host (kernel: ip_route_output_key, tcp_v6_connect), so they reach the
    // listener too.
    return listener.port == address.port && listener.family() == address.family() &&
           (listener.address == address.address || address.address.is_unspecified());
  });
}

Decision Policy::decide(const FlowKey& key) const noexcept {
  if (is_own_listener(key.original_destination)) return {.refusal = Refusal::direct, .dial = {}};
  const auto target = options_.fixed_target.value_or(key.original_destination);
  if (is_own_listener(target)) return {.refusal = Refusal::self, .dial = {}};
  if (!options_.fixed_target) {
    // A client must not reach through us what only this host should reach; who sets a fixed target may mean loopback.
    const auto& address = target.address;
    if (address.is_loopback() || address.is_link_local() || address.is_multicast() || address.is_unspecified() ||
        address.is_broadcast()) {
      return {.refusal = Refusal::forbidden_target, .dial = {}};
    }
  }
  Dial dial{.target = target, .source = options_.source};
  if (dial.source != SourceMode::none && target.family() != key.client.family()) {
    dial.source_family_differs = true;
    dial.source = SourceMode::none;
  }
  return {.refusal = std::nullopt, .dial = dial};
}

}  // namespace limpid
