// The probe's network: a client and a target in namespaces of their own, tied to this one by veth pairs.
//
//   client eth0 ── limpid_pc  this host  limpid_ps ── eth0 target
//
// On request the client is put in front of a real interface instead: eBPF programs make what it sends arrive there, and
// fetch back what that interface would send to it. All of it ends with this process, but for two routes then.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "doctor/facts.h"
#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid::doctor {

/// Addresses that RFC 5737 and RFC 3849 keep for documentation: nobody's, and routed nowhere else while the probe lasts.
[[nodiscard]] IpAddress probe_client(Family family);
[[nodiscard]] IpAddress probe_target(Family family);

/// The routes that a client in front of a real interface needs, with our protocol number.
[[nodiscard]] std::vector<RouteSpec> probe_routes(const std::string& interface);

class ProbeNet {
 public:
  /// `in_front_of`: the interface, or nothing for an interface of the client's own. `with_ipv6` as far as this host has it.
  [[nodiscard]] static Result<ProbeNet> build(const Facts& facts, const std::optional<std::string>& in_front_of,
                                              bool with_ipv6);

  [[nodiscard]] int client() const noexcept { return client_.get(); }
  [[nodiscard]] int target() const noexcept { return target_.get(); }
  /// An address of this host that the client reaches.
  [[nodiscard]] const IpAddress& gateway(Family family) const noexcept {
    return family == Family::ipv4 ? gateway_ipv4_ : gateway_ipv6_;
  }

 private:
  UniqueFd client_;
  UniqueFd target_;
  std::vector<UniqueFd> programs_;
  IpAddress gateway_ipv4_;
  IpAddress gateway_ipv6_;
};

}  // namespace limpid::doctor
