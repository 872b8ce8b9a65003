// The programs and maps of one instance, as descriptors: loaded anew, over maps that an earlier process left, or found by the number of an attached
// program. Attaches nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bpf/cut_through_layout.h"
#include "cutthrough/cut_through.h"
#include "limpid/unique_fd.h"
#include "net/endpoint.h"

namespace limpid {

/// The kernel keeps fifteen characters of a program's name.
inline constexpr const char* kCutIngress = "limpid_cut_in";
inline constexpr const char* kCutIngressHeadless = "limpid_cut_ip";
inline constexpr const char* kCutEgress = "limpid_cut_out";
inline constexpr const char* kCutEgressHeadless = "limpid_cut_oip";

struct CutMaps {
  UniqueFd own;
  UniqueFd ways;
  UniqueFd flows;
  UniqueFd links;
  UniqueFd counters;
  UniqueFd over;
  UniqueFd datagrams;  ///< limpid_cut_udp
  UniqueFd sessions;   ///< limpid_cut_talk
  [[nodiscard]] bool complete() const noexcept {
    return own.valid() && ways.valid() && flows.valid() && links.valid() && counters.valid() && over.valid() &&
           datagrams.valid() && sessions.valid();
  }
};

struct CutPrograms {
  CutMaps maps;
  UniqueFd ethernet;  ///< for interfaces with Ethernet headers
  UniqueFd headless;
  UniqueFd egress;  ///< these two at tc egress
  UniqueFd egress_headless;
  UniqueFd attempt;  ///< limpid_cut_try

  /// Has the kernel check and load them; over `kept`, if it is complete.
  [[nodiscard]] static Result<CutPrograms> load(const CutThroughOptions& options, const CutMaps& kept);
};

/// The maps of a program by its number, and whose they are. Empty: not one of ours.
struct FoundCutMaps {
  limpid_cut_owner owner{};
  CutMaps maps;
};
[[nodiscard]] std::optional<FoundCutMaps> find_cut_maps(std::uint32_t program);

[[nodiscard]] std::optional<limpid_cut_flow> find_flow(const CutMaps& maps, CutThroughId id);
[[nodiscard]] std::optional<limpid_cut_entry> find_entry(const CutMaps& maps, const limpid_cut_tuple& tuple);
/// Every flow at the moment, to be looked at one by one: what happens to one meanwhile must not be missed. One that comes or goes meanwhile may be missing.
[[nodiscard]] std::vector<CutThroughId> all_flows(const CutMaps& maps);
/// Takes the ids of flows to which something has happened since the last time. One may come twice, or have gone.
[[nodiscard]] std::vector<CutThroughId> take_news(const CutMaps& maps);
/// As the programs do: for the next take_news(), also of another process.
void add_news(const CutMaps& maps, CutThroughId id);
[[nodiscard]] std::vector<std::pair<int, limpid_cut_link>> all_links(const CutMaps& maps);
[[nodiscard]] Result<std::vector<std::uint64_t>> read_counters(const CutMaps& maps);

/// The interface by which the kernel would forward a packet with these addresses and this mark that came in at `from_link`. 0: none.
[[nodiscard]] Result<int> try_way_out(const CutPrograms& programs, Transport transport, const SocketAddress& source,
                                      const SocketAddress& destination, int from_link, std::uint32_t mark);

}  // namespace limpid
