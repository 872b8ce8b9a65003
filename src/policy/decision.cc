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
    case Refusal::unresolved_name: return "unresolved_name";
  }
  return "";
}

bool Policy::is_own_listener(const SocketAddress& address) const noexcept {
  return std::ranges::any_of(options_.listeners, [&](const SocketAddress& listener) {
    if (listener.port != address.port || listener.family() != address.family()) return false;
    // 0.0.0.0 and :: as a target mean this host (kernel: ip_route_output_key, tcp_v6_connect), so they reach the
    // listener too; and a listener on them is reached at every loopback address.
    return listener.address == address.address || address.address.is_unspecified() ||
           (listener.address.is_unspecified() && address.address.is_loopback());
  });
}

Decision Policy::decide(const FlowKey& key) const noexcept {
  if (options_.arrival == Arrival::intercepted && is_own_listener(key.original_destination)) {
    return {.refusal = Refusal::direct, .dial = {}};
  }
  if (options_.targets) return decide_by_list(key);
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
  return {.refusal = std::nullopt, .dial = dial_to({.address = target}, key.client)};
}

Decision Policy::decide_to(const FlowKey& key, const Target& target) const noexcept {
  if (is_own_listener(target.address)) return {.refusal = Refusal::self, .dial = {}};
  return {.refusal = std::nullopt, .dial = dial_to(target, key.client)};
}

Decision Policy::decide_by_list(const FlowKey& key) const noexcept {
  const Target target = options_.targets->first();
  if (is_own_listener(target.address)) return {.refusal = Refusal::self, .dial = {}};
  // A wildcard listener is reached at any address of this host, but whichever it was: our own leg arrives where it was dialled to.
  const bool in_circle = options_.arrival == Arrival::direct && options_.targets->contains(key.original_destination);
  if (in_circle) return {.refusal = Refusal::self, .dial = {}};
  return {.refusal = std::nullopt, .dial = dial_to(target, key.client)};
}

Dial Policy::dial_to(const Target& target, const SocketAddress& client) const noexcept {
  Dial dial{.target = target.address,
            .source = target.on_this_host ? SourceMode::none : options_.source,
            .upstream = options_.upstream ? options_.upstream->load(std::memory_order_acquire) : std::uint16_t{0}};
  if (dial.source != SourceMode::none && target.address.family() != client.family()) {
    dial.source_family_differs = true;
    dial.source = SourceMode::none;
  }
  return dial;
}

std::optional<Dial> Policy::next_dial(const SocketAddress& client, const SocketAddress& failed,
                                      unsigned attempts) const noexcept {
  if (!options_.targets) return std::nullopt;
  auto target = options_.targets->after(failed, attempts);
  while (target && is_own_listener(target->address)) target = options_.targets->after(target->address, ++attempts);
  if (!target) return std::nullopt;
  return dial_to(*target, client);
}

}  // namespace limpid
