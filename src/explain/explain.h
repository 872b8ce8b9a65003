// `limpid explain`: sends a probe packet through the kernel, hears what becomes of it, and puts it in words. The only file of this room,
// beside live_trace.h, that changes anything: a table of its own in nftables, which it takes away again.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "explain/ebpf_answer.h"
#include "explain/evidence.h"
#include "explain/relay_intent.h"
#include "explain/verdict.h"
#include "explain/walk.h"
#include "limpid/error.h"

namespace limpid {

struct Question {
  Transport transport = Transport::tcp;
  std::optional<SocketAddress> source;  ///< port 0: one is chosen. Empty, with `local` only: the kernel chooses
  SocketAddress destination;
  std::string interface;              ///< where it arrives; empty: where the way back to the source begins
  bool local = false;                 ///< this host sends it
  std::optional<std::uint32_t> user;  ///< with `local`: whose program sends it
  std::optional<std::uint32_t> group;
};

struct Explanation {
  Question question;  ///< with what was left open filled in
  Walk walk;
  Evidence evidence;
  Verdict verdict;
  std::map<std::string, EbpfAnswer> ebpf;  ///< of each instance by eBPF that was asked
  std::optional<RelayIntent> relay;        ///< with a packet that an instance intercepts
  std::vector<std::string> notes;          ///< what restricts the answer
};

/// Needs CAP_NET_ADMIN and, for a packet that arrives, CAP_BPF.
[[nodiscard]] Result<Explanation> explain_packet(const Question& asked);

}  // namespace limpid
