// eBPF by the raw system call: tries whether programs can be loaded, and the two small programs with which a probe slips
// into a real interface. Everything ends with the descriptors.
#pragma once

#include <cstdint>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid::doctor {

/// Loads a program that does nothing, for tc or for socket look-ups.
[[nodiscard]] Status try_bpf_tc();
[[nodiscard]] Status try_bpf_sk_lookup();

/// Every frame that arrives on interface `from` continues as if it had arrived on `to`. Needs tcx (kernel 6.6 or newer).
[[nodiscard]] Result<UniqueFd> redirect_arrivals(std::uint32_t from, std::uint32_t to);
/// What `from` is about to send to one of `clients` (Ethernet; ARP and neighbour solicitations included) is sent by `to`
/// instead; everything else is left alone.
[[nodiscard]] Result<UniqueFd> redirect_answers(std::uint32_t from, std::uint32_t to, const IpAddress& client_ipv4,
                                                const IpAddress& client_ipv6);

}  // namespace limpid::doctor
