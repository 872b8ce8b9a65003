// The eBPF backend: puts a plan's programs on every interface, finds what is there, takes it away. Called by install.cc, remove.cc and diff.cc.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "intercept/ebpf_policy.h"
#include "intercept/ebpf_programs.h"
#include "intercept/plan.h"
#include "limpid/error.h"
#include "net/netlink.h"
#include "net/tc_program.h"

namespace limpid {

/// What there is of one installation, found by the programs that are attached.
struct EbpfInstallation {
  Ownership ownership;
  std::uint32_t version = 0;
  std::uint32_t id = 0;              ///< of the map limpid_owner
  std::optional<EbpfPolicy> policy;  ///< empty: of another version, or it could not be read
  std::vector<Attachment> attachments;
  std::map<int, limpid_interface> links;
  /// "eBPF programs of \"limpid\" on lan, wan".
  [[nodiscard]] std::string to_string() const;
  std::vector<std::string> link_names;
};

/// Everybody's of this network namespace. Of one name there may be two for a moment, while one replaces the other.
[[nodiscard]] Result<std::vector<EbpfInstallation>> find_ebpf();

/// Why the backend cannot work here; empty: it can. Loads the programs and throws them away.
[[nodiscard]] Result<std::optional<std::string>> find_missing_ebpf_feature();

/// Whether this kernel hands packets to one of several listeners on a port: bpf_sk_assign() refused those with SO_REUSEPORT (ESOCKTNOSUPPORT) before
/// Linux 6.6. Told by tcx, which came with the same release and the same part of the kernel: programs that are only tried must not assign sockets.
[[nodiscard]] bool ebpf_takes_reuseport();
/// Whether the program for a client's port that comes again can stay attached: it does so by a name in the bpf file system.
[[nodiscard]] bool has_bpf_file_system();

[[nodiscard]] Status check_ebpf(const Plan& plan);
/// In place of an older one of the same name, without a gap: its maps are rewritten, or its programs replaced where they are of another version.
[[nodiscard]] Status install_ebpf(const Plan& plan);
[[nodiscard]] Status drain_ebpf(const Plan& plan);
[[nodiscard]] Status remove_ebpf(const EbpfInstallation& installation);

/// Attaches what is installed to interfaces that have come since, and takes it away from those that have become ports of a bridge or bond. Returns
/// the names of the new ones.
[[nodiscard]] Result<std::vector<std::string>> follow_links(const Plan& plan);

/// The plan's policy, and where its programs belong now, as text to compare.
[[nodiscard]] Result<std::string> planned_ebpf_listing(const Plan& plan);
/// The same of what is there; empty: nothing.
[[nodiscard]] Result<std::string> live_ebpf_listing(const Plan& plan);

struct EbpfListings {
  std::string planned;
  std::string live;  ///< empty: nothing is installed
};
/// Both, but only of interfaces that follow_links() has seen and that still are where they were: the others are its business.
[[nodiscard]] Result<EbpfListings> settled_ebpf_listings(const Plan& plan);

/// What the programs would decide about a packet: a limpid_decision. Asks the program itself, with a copy of what is installed, so nothing is counted and
/// nobody gets the packet. Empty: there is no program at that interface.
[[nodiscard]] Result<std::optional<int>> ask_ebpf(const EbpfInstallation& installation, const EbpfQuestion& question);

/// What the installed programs decided so far: "intercepted" → packets. Empty where it is not installed.
[[nodiscard]] Result<std::map<std::string, std::uint64_t>> ebpf_counters(const std::string& name);
/// "intercepted", "other port": a limpid_decision.
[[nodiscard]] std::string_view decision_name(int decision);

}  // namespace limpid
