// Tries what the kernel can do with real packets, in a client – router network of its own: every way to intercept
// (nftables, both variants of iptables) × tproxy and socket × family × protocol. Changes nothing outside of it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "net/endpoint.h"

namespace limpid::doctor {

enum class Mechanism : std::uint8_t { nft, iptables_nft, iptables_legacy };
enum class Match : std::uint8_t { tproxy, socket };

struct Trial {
  Mechanism mechanism = Mechanism::nft;
  Match match = Match::tproxy;
  Family family = Family::ipv4;
  Transport transport = Transport::tcp;
  bool delivered = false;
  bool program_missing = false;
  std::string problem;  ///< why it was not delivered
};

struct Trials {
  std::vector<Trial> trials;
  std::string policy_routing_problem;
  std::string missing_nft_feature;
};

/// In the calling process, which then stays in other namespaces: for a forked child.
[[nodiscard]] Result<Trials> make_trials();

/// As text between two processes.
[[nodiscard]] std::string to_text(const Trials& trials);
[[nodiscard]] Trials trials_of(std::string_view text);

}  // namespace limpid::doctor
