// What this kernel can do: findings out of the trials, and whether eBPF programs load.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "base/forked.h"
#include "doctor/bpf.h"
#include "doctor/checks.h"
#include "doctor/trials.h"

namespace limpid::doctor {
namespace {

struct Kind {
  Mechanism mechanism;
  Match match;
  std::string_view id;
  std::string_view name;
  std::string_view cure;
};

constexpr std::array kKinds = {
    Kind{Mechanism::nft, Match::tproxy, "nft-tproxy", "nftables' tproxy", "modprobe nft_tproxy"},
    Kind{Mechanism::nft, Match::socket, "nft-socket", "nftables' socket", "modprobe nft_socket"},
    Kind{Mechanism::iptables_nft, Match::tproxy, "xt-tproxy", "TPROXY with iptables-nft", "modprobe xt_TPROXY"},
    Kind{Mechanism::iptables_nft, Match::socket, "xt-socket", "-m socket with iptables-nft", "modprobe xt_socket"},
    Kind{Mechanism::iptables_legacy, Match::tproxy, "xt-tproxy-legacy", "TPROXY with iptables-legacy",
         "modprobe -a ip_tables ip6_tables iptable_mangle ip6table_mangle xt_TPROXY"},
    Kind{Mechanism::iptables_legacy, Match::socket, "xt-socket-legacy", "-m socket with iptables-legacy",
         "modprobe -a ip_tables ip6_tables iptable_mangle ip6table_mangle xt_socket"},
};

std::string name_of(const Trial& trial) {
  return fmt::format("{} over {}", to_string(trial.transport), to_string(trial.family));
}

Finding judge(const Kind& kind, const std::vector<Trial>& trials) {
  std::vector<std::string> works;
  std::vector<std::string> fails;
  std::string problem;
  bool missing = false;
  for (const Trial& trial : trials) {
    if (trial.mechanism != kind.mechanism || trial.match != kind.match) continue;
    (trial.delivered ? works : fails).push_back(name_of(trial));
    if (!trial.delivered) problem = trial.problem;
    missing = missing || trial.program_missing;
  }
  if (works.empty() && fails.empty()) return skipped(Group::kernel, kind.id, "was not tried");
  if (missing) return skipped(Group::kernel, kind.id, problem);
  if (fails.empty()) {
    return ok(Group::kernel, kind.id, fmt::format("{} delivers {}", kind.name, fmt::join(works, ", ")));
  }
  const std::string summary = fmt::format("{} fails for {}: {}", kind.name, fmt::join(fails, ", "), problem);
  Remedy remedy;
  remedy.paste = {std::string(kind.cure)};
  // Only the backend that uses it needs it.
  return kind.mechanism == Mechanism::nft ? failure(Group::kernel, kind.id, summary, {}, remedy)
                                          : warning(Group::kernel, kind.id, summary, {}, remedy);
}

/// A transparent socket of each kind got a packet that was not addressed to this host, by whatever rules.
Finding judge_sockets(const std::vector<Trial>& trials) {
  std::vector<std::string> lacking;
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    for (const Transport transport : {Transport::tcp, Transport::udp}) {
      const auto works = [&](const Trial& t) {
        return t.family == family && t.transport == transport && t.match == Match::socket && t.delivered;
      };
      if (std::ranges::none_of(trials, works)) {
        lacking.push_back(fmt::format("{} over {}", to_string(transport), to_string(family)));
      }
    }
  }
  if (lacking.empty()) {
    return ok(Group::kernel, "transparent-sockets",
              "sockets bound to foreign addresses get their packets: TCP and UDP over IPv4 and IPv6");
  }
  return failure(
      Group::kernel, "transparent-sockets",
      fmt::format("no socket bound to a foreign address got a packet: {}", fmt::join(lacking, ", ")), {},
      advise("IP_TRANSPARENT needs CAP_NET_ADMIN, and the kernel CONFIG_NF_SOCKET_IPV4 and CONFIG_NF_SOCKET_IPV6"));
}

Finding judge_bpf(std::string_view id, std::string_view name, const Status& tried) {
  if (tried) return ok(Group::kernel, id, fmt::format("{} can be loaded", name));
  Finding finding = skipped(Group::kernel, id, tried.error().message());
  if (tried.error().kind == ErrorKind::unsupported) {
    finding.not_permitted = true;
    return finding;
  }
  finding.severity = Severity::warning;
  finding.remedy = advise("only an eBPF backend needs it: CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_BPF, CONFIG_INET");
  return finding;
}

Findings judge_trials(const Trials& trials) {
  Findings findings;
  if (trials.missing_nft_feature.empty()) {
    findings.push_back(ok(Group::kernel, "nft-features", "nftables has every expression that a plan needs"));
  } else {
    findings.push_back(
        failure(Group::kernel, "nft-features", fmt::format("the kernel lacks {}", trials.missing_nft_feature)));
  }
  if (trials.policy_routing_problem.empty()) {
    findings.push_back(
        ok(Group::kernel, "policy-routing", "rules by mark and local routes can be made, for both families"));
  } else {
    findings.push_back(failure(Group::kernel, "policy-routing", trials.policy_routing_problem, {},
                               advise("the kernel needs CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES")));
  }
  findings.push_back(judge_sockets(trials.trials));
  for (const Kind& kind : kKinds) findings.push_back(judge(kind, trials.trials));
  return findings;
}

}  // namespace

Findings try_kernel() {
  Findings findings;
  const auto text = run_forked([]() -> Result<std::string> {
    auto trials = make_trials();
    if (!trials) return std::unexpected(trials.error());
    return to_text(*trials);
  });
  if (text) {
    findings = judge_trials(trials_of(*text));
  } else {
    Finding finding =
        skipped(Group::kernel, "trials", fmt::format("nothing could be tried: {}", text.error().message()));
    finding.not_permitted = text.error().kind == ErrorKind::unsupported;
    findings.push_back(std::move(finding));
  }
  findings.push_back(judge_bpf("bpf-tc", "an eBPF program for tc", try_bpf_tc()));
  findings.push_back(judge_bpf("bpf-sk-lookup", "an eBPF program for socket look-ups", try_bpf_sk_lookup()));
  return findings;
}

}  // namespace limpid::doctor
