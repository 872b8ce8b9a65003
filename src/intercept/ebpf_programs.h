// The programs and maps of one installation, as descriptors: loaded anew, or found in the kernel by the number of an attached program. Fills and reads
// the maps. Attaches nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "intercept/ebpf_policy.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// Whether this build has the eBPF backend; the error says why not.
[[nodiscard]] Status require_ebpf_built_in();

/// A packet that nobody sends, to ask the programs about.
struct EbpfQuestion {
  std::span<const std::byte> frame;  ///< with an Ethernet header
  std::uint32_t mark = 0;
  int link = 1;                       ///< where it arrives, or leaves
  std::optional<std::uint32_t> user;  ///< this host sends it, in this user's name; empty: it arrives
};

class EbpfPrograms {
 public:
  /// Has the kernel check and load them. With no policy yet.
  [[nodiscard]] static Result<EbpfPrograms> load(const Ownership& ownership);
  /// Those of an attached program; empty: it is not one of ours. `egress` is left open.
  [[nodiscard]] static std::optional<EbpfPrograms> find(std::uint32_t program);
  /// The number of the map that tells installations apart; empty: not a program of ours.
  [[nodiscard]] static std::optional<std::uint32_t> installation_of(std::uint32_t program);

  [[nodiscard]] Result<limpid_owner> owner() const;
  [[nodiscard]] Status write_owner(const Ownership& ownership);

  /// Fills the slot that is not in use, then switches over: no packet meets half a policy.
  [[nodiscard]] Status write_policy(const EbpfPolicy& policy);
  [[nodiscard]] Result<EbpfPolicy> read_policy() const;
  /// Nothing new is captured from now on.
  [[nodiscard]] Status begin_drain();

  [[nodiscard]] Status write_link(int link, const limpid_interface& facts);
  [[nodiscard]] Status forget_link(int link);
  [[nodiscard]] std::vector<std::pair<int, limpid_interface>> links() const;
  /// This host's own addresses and networks, instead of those written before.
  [[nodiscard]] Status write_own(const std::vector<Prefix>& own);

  /// The policy, interfaces and own addresses of what is installed, to try packets with.
  [[nodiscard]] Status copy_state(const EbpfPrograms& installed);

  /// What the programs decided so far, by limpid_decision.
  [[nodiscard]] Result<std::vector<std::uint64_t>> counters() const;
  /// What they would decide: a limpid_decision. Needs programs that were loaded, not found.
  [[nodiscard]] Result<int> try_packet(const EbpfQuestion& question) const;

  /// Descriptor and name of everything, to pin.
  [[nodiscard]] std::vector<std::pair<int, std::string>> objects() const;
  [[nodiscard]] int ingress() const noexcept { return ingress_.get(); }
  [[nodiscard]] int egress() const noexcept { return egress_.get(); }
  /// The kernel asks `limpid_reopen` for a listener from now on, until the link is closed and unpinned.
  [[nodiscard]] Status attach_reopening();
  void set_egress(UniqueFd program) noexcept { egress_ = std::move(program); }

 private:
  EbpfPrograms() = default;
  [[nodiscard]] Result<std::uint32_t> active_slot() const;
  [[nodiscard]] Status clear_networks(std::uint32_t slot);
  UniqueFd ingress_;
  UniqueFd egress_;
  UniqueFd decide_;
  UniqueFd owner_;
  UniqueFd policies_;
  UniqueFd active_;
  UniqueFd networks_;
  UniqueFd links_;
  UniqueFd served_;
  UniqueFd counters_;
  UniqueFd reopened_;
  UniqueFd listeners_;
  UniqueFd reopen_;
  UniqueFd reopening_;  ///< its link to the network namespace
};

}  // namespace limpid
