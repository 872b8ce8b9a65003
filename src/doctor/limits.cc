// Limits that a proxy meets under load: descriptors, conntrack entries, ports, memory.
#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "doctor/checks.h"

namespace limpid::doctor {
namespace {

constexpr std::uint64_t kFewDescriptors = 4096;
constexpr std::uint64_t kLittleMemoryKib = 65536;

/// More than nine tenths.
bool is_nearly_full(const Usage& usage) {
  return usage.most != 0 && usage.used > usage.most / 10 * 9;
}

/// `whose`: "a process", or the one that is meant.
Finding judge_descriptors(std::string_view whose, std::uint64_t most, std::string_view how, std::string subject = {}) {
  if (most >= kFewDescriptors) {
    return ok(Group::limits, "descriptors", fmt::format("{} may have {}: two for each connection", whose, most),
              std::move(subject));
  }
  Remedy remedy;
  remedy.paste = {"ulimit -n 65536"};
  remedy.advice = how;
  return warning(Group::limits, "descriptors", fmt::format("{} may have {} only: two for each connection", whose, most),
                 std::move(subject), std::move(remedy));
}

Findings check_descriptors(const Facts& facts) {
  if (is_nearly_full(facts.file_handles)) {
    return {warning(Group::limits, "descriptors",
                    fmt::format("{} of {} file handles of the whole system are in use", facts.file_handles.used,
                                facts.file_handles.most),
                    {}, set_sysctls({{"fs.file-max", std::to_string(facts.file_handles.most * 2)}}, false))};
  }
  Findings findings;
  bool all_known = !facts.judged.empty();
  for (const Judged& judged : facts.judged) {
    const bool known = !judged.processes.empty() && judged.processes.front().most_descriptors;
    all_known = all_known && known;
    if (!known) continue;
    const RunningProcess& relay = judged.processes.front();
    findings.push_back(judge_descriptors(
        fmt::format("the process that relays (pid {})", relay.pid), *relay.most_descriptors,
        "where it is started; in a unit of systemd: LimitNOFILE=65536; then restart it", judged.ownership.name));
  }
  if (all_known) return findings;
  // A proxy raises its soft limit to the hard one by itself, as `limpid run` does. Ours stands for that of a proxy to come.
  findings.push_back(judge_descriptors("a process", std::max(facts.descriptors.used, facts.descriptors.most),
                                       "in a unit of systemd: LimitNOFILE=65536"));
  return findings;
}

Findings check_conntrack(const Facts& facts) {
  if (!facts.conntrack) return {};
  const Usage& usage = *facts.conntrack;
  const std::string summary = fmt::format("{} of {} connections", usage.used, usage.most);
  if (!is_nearly_full(usage)) return {ok(Group::limits, "conntrack", summary)};
  const Remedy remedy =
      set_sysctls({{"net.netfilter.nf_conntrack_max", std::to_string(std::max<std::uint64_t>(usage.most, 1) * 2)}});
  const std::string full = summary + ": when it is full, first packets are dropped (\"nf_conntrack: table full\")";
  return {usage.used >= usage.most ? failure(Group::limits, "conntrack", full, {}, remedy)
                                   : warning(Group::limits, "conntrack", full, {}, remedy)};
}

Finding check_ports(const Facts& facts) {
  const PortRange& range = facts.survey.client_ports;
  const std::uint64_t count = std::uint64_t{range.last.value} - range.first.value + 1;
  const std::string summary = fmt::format("{} for outgoing connections ({}-{}), {} in TIME_WAIT", count,
                                          range.first.value, range.last.value, facts.time_wait);
  if (count >= 8192 && facts.time_wait < count / 10 * 8) return ok(Group::limits, "ports", summary);
  return warning(Group::limits, "ports", summary + ": few are left for one target", {},
                 set_sysctls({{"net.ipv4.ip_local_port_range", "10240 65535"}}, false));
}

Finding check_memory(const Facts& facts) {
  if (facts.available_memory_kib == 0) return skipped(Group::limits, "memory", "/proc/meminfo does not tell");
  const std::string summary = fmt::format("{} MiB are available", facts.available_memory_kib / 1024);
  if (facts.available_memory_kib >= kLittleMemoryKib) return ok(Group::limits, "memory", summary);
  return warning(Group::limits, "memory", summary, {}, advise("lower --max-flows, or give the machine more memory"));
}

}  // namespace

Findings check_limits(const Facts& facts) {
  Findings findings = check_descriptors(facts);
  append(findings, check_conntrack(facts));
  findings.push_back(check_ports(facts));
  findings.push_back(check_memory(facts));
  return findings;
}

}  // namespace limpid::doctor
