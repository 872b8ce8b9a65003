// What the eBPF programs of an instance decide about a packet. They work before every netfilter hook (or behind, for what this host sends), where no
// trace sees them; so they are asked. Changes nothing.
#pragma once

#include <optional>
#include <string>

#include "explain/probe_table.h"
#include "intercept/ebpf.h"
#include "limpid/error.h"

namespace limpid {

struct EbpfAnswer {
  int decision = 0;       ///< a limpid_decision
  std::string interface;  ///< whose program was asked
  std::string words;      ///< "the port is not in scope (TCP 80)"
  [[nodiscard]] bool captures() const noexcept;
  /// The packet ends there, and nobody hears of it, or the sender does.
  [[nodiscard]] bool drops() const noexcept;
  [[nodiscard]] bool rejects() const noexcept;
};

/// The probe arrives at `interface`; or leaves by it with `mark`, and a program of `user`'s sends it. Empty: there is no program at that interface.
[[nodiscard]] Result<std::optional<EbpfAnswer>> ask_programs(const EbpfInstallation& installation,
                                                             const ProbeMarks& probe, const std::string& interface,
                                                             std::uint32_t mark, std::optional<std::uint32_t> user);

/// A decision in the words that rules of nftables get (words.cc).
[[nodiscard]] std::string words_of_decision(int decision, const EbpfInstallation& installation, Transport transport,
                                            const SocketAddress& destination, std::optional<std::uint32_t> user);

}  // namespace limpid
