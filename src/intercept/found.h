// What is in the kernel under names that instances of ours have, whichever backend put it there.
#pragma once

#include <string>
#include <vector>

#include "intercept/ebpf.h"
#include "intercept/nft.h"
#include "intercept/plan.h"
#include "intercept/xtables.h"
#include "limpid/error.h"

namespace limpid {

struct Found {
  NftTables nft;
  std::vector<XtablesPiece> xtables;
  std::vector<EbpfInstallation> ebpf;

  /// Everything that a comment says, each once. Of one name there are several where two backends have left something.
  [[nodiscard]] std::vector<Ownership> owners() const;
  /// The pieces of one instance, backend and family.
  [[nodiscard]] std::vector<XtablesPiece> pieces(const std::string& name, Backend backend, Family family) const;
  /// "nft table inet limpid", "iptables chains limpid-*": what has our name and is somebody else's; empty: nothing.
  [[nodiscard]] std::string foreign(const std::string& name) const;
  /// The same, but for tables that may stand beside ours (ip, ip6): whose those are is no question when ours are removed.
  [[nodiscard]] std::string foreign_main(const std::string& name) const;

 private:
  [[nodiscard]] std::string foreign_chains(const std::string& name) const;
};

/// A program that is not installed has put nothing there. Fails where none is, and where it is not permitted to look.
[[nodiscard]] Result<Found> find_installed();

}  // namespace limpid
