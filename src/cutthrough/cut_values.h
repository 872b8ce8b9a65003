// Cut-through's values as the maps have them, and back. Pure.
#pragma once

#include <cstdint>

#include "bpf/cut_through_layout.h"
#include "cutthrough/cut_through.h"
#include "net/endpoint.h"

namespace limpid {

/// CLOCK_MONOTONIC and the wall clock, read together.
struct CutClock {
  std::uint64_t monotonic_ns = 0;
  std::int64_t wall_us = 0;
  [[nodiscard]] static CutClock now() noexcept;
  [[nodiscard]] std::uint32_t seconds() const noexcept {
    return static_cast<std::uint32_t>(monotonic_ns / 1'000'000'000);
  }
};

[[nodiscard]] limpid_cut_tuple tuple_of(const SocketAddress& source, const SocketAddress& destination,
                                        Transport transport = Transport::tcp);
/// A host beyond this one, and a port.
[[nodiscard]] bool can_be_forwarded(const SocketAddress& address) noexcept;
[[nodiscard]] SocketAddress source_of(const limpid_cut_tuple& tuple);
[[nodiscard]] SocketAddress destination_of(const limpid_cut_tuple& tuple);

/// Refuses what the programs could not translate; see CutThrough::begin().
[[nodiscard]] Result<limpid_cut_flow> make_flow(const CutThroughFlow& flow, const CutClock& now);

/// Bits of LIMPID_CUT_FIN_ACKED for the directions that are finished, whoever has seen their FIN.
[[nodiscard]] std::uint32_t finished_ways(const limpid_cut_flow& flow, const limpid_cut_entry& entry) noexcept;
[[nodiscard]] CutThroughState state_of(const limpid_cut_flow& flow, const limpid_cut_entry& entry, const CutClock& now);
[[nodiscard]] CutThroughRecord record_of(CutThroughId id, const limpid_cut_flow& flow, CutThroughEnd end,
                                         const CutClock& now);

}  // namespace limpid
