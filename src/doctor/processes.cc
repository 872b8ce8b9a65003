// The instance's lock says who relays; /proc says the rest. The pure part, the judgement, is check_processes().
#include "doctor/processes.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/capability.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <sstream>

#include "base/file_text.h"
#include "base/syscall_filter.h"
#include "doctor/checks.h"
#include "intercept/install.h"

namespace limpid::doctor {
namespace {

constexpr std::string_view kKeeper = "limpid-rules";

constexpr auto kNames = std::to_array<std::string_view>({"chown",
                                                         "dac_override",
                                                         "dac_read_search",
                                                         "fowner",
                                                         "fsetid",
                                                         "kill",
                                                         "setgid",
                                                         "setuid",
                                                         "setpcap",
                                                         "linux_immutable",
                                                         "net_bind_service",
                                                         "net_broadcast",
                                                         "net_admin",
                                                         "net_raw",
                                                         "ipc_lock",
                                                         "ipc_owner",
                                                         "sys_module",
                                                         "sys_rawio",
                                                         "sys_chroot",
                                                         "sys_ptrace",
                                                         "sys_pacct",
                                                         "sys_admin",
                                                         "sys_boot",
                                                         "sys_nice",
                                                         "sys_resource",
                                                         "sys_time",
                                                         "sys_tty_config",
                                                         "mknod",
                                                         "lease",
                                                         "audit_write",
                                                         "audit_control",
                                                         "setfcap",
                                                         "mac_override",
                                                         "mac_admin",
                                                         "syslog",
                                                         "wake_alarm",
                                                         "block_suspend",
                                                         "audit_read",
                                                         "perfmon",
                                                         "bpf",
                                                         "checkpoint_restore"});

constexpr std::uint64_t bit(unsigned capability) {
  return std::uint64_t{1} << capability;
}

/// What the process that relays may need; docs/privileges.md says when.
constexpr std::uint64_t kForRelaying = bit(CAP_NET_RAW) | bit(CAP_NET_BIND_SERVICE);
constexpr std::uint64_t kForPrograms = bit(CAP_SYS_PTRACE) | bit(CAP_DAC_READ_SEARCH);
constexpr std::uint64_t kForCutThrough = bit(CAP_NET_ADMIN) | bit(CAP_SYS_ADMIN) | bit(CAP_BPF) | bit(CAP_PERFMON);

std::optional<std::uint64_t> parse(std::string_view text, int base) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end == text.data()) return std::nullopt;
  return value;
}

std::vector<pid_t> children_of(pid_t pid) {
  std::istringstream words(read_text(fmt::format("/proc/{}/task/{}/children", pid, pid)));
  std::vector<pid_t> children;
  for (pid_t child = 0; words >> child;) children.push_back(child);
  return children;
}

/// Its second word: other verbs hold such a lock, too.
bool is_run(pid_t pid) {
  const std::string words = read_text(fmt::format("/proc/{}/cmdline", pid));
  const auto first = words.find('\0');
  return first != std::string::npos && words.compare(first + 1, 4, std::string_view("run\0", 4)) == 0;
}

std::string describe(const RunningProcess& process) {
  return fmt::format("{} (pid {}): user {}, capabilities {}, no_new_privs {}, seccomp {}, bounding set {}",
                     process.name, process.pid, process.user, name_capabilities(process.permitted),
                     process.no_new_privs ? "on" : "off", process.filtered ? "on" : "off",
                     process.bounding == 0 ? "empty" : name_capabilities(process.bounding));
}

/// What it need not hold, in words; empty: nothing.
std::vector<std::string> excess_of(const RunningProcess& relay) {
  std::vector<std::string> excess;
  std::uint64_t needed = kForRelaying | kForPrograms;
  if (relay.holds(CAP_BPF)) needed |= kForCutThrough;
  if (const std::uint64_t more = relay.permitted & ~needed; more != 0) excess.push_back(name_capabilities(more));
  if (!relay.no_new_privs) excess.emplace_back("no_new_privs is off");
  if (!relay.filtered && kSyscallsAreFiltered) excess.emplace_back("its system calls are not filtered");
  return excess;
}

}  // namespace

std::string name_capabilities(std::uint64_t capabilities) {
  std::vector<std::string> names;
  for (unsigned number = 0; number < 64; ++number) {
    if ((capabilities >> number & 1U) == 0) continue;
    names.push_back(number < kNames.size() ? fmt::format("cap_{}", kNames.at(number)) : fmt::format("{}", number));
  }
  if (names.size() == kNames.size()) return "all";
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

std::optional<RunningProcess> parse_status(pid_t pid, std::string_view status) {
  RunningProcess process;
  process.pid = pid;
  char state = '\0';
  unsigned found = 0;
  while (!status.empty()) {
    const auto end = std::min(status.find('\n'), status.size());
    const auto line = status.substr(0, end);
    status.remove_prefix(std::min(end + 1, status.size()));
    const auto colon = line.find(":\t");
    if (colon == std::string_view::npos) continue;
    const auto key = line.substr(0, colon);
    const auto value = line.substr(colon + 2);
    const auto take = [&](auto& place, int base) {
      if (const auto number = parse(value, base)) {
        place = static_cast<std::remove_reference_t<decltype(place)>>(*number);
        ++found;
      }
    };
    std::uint64_t number = 0;
    if (key == "Name")
      process.name = value;
    else if (key == "State")
      state = value.empty() ? '\0' : value.front();
    else if (key == "Uid")
      take(process.user, 10);
    else if (key == "CapPrm")
      take(process.permitted, 16);
    else if (key == "CapEff")
      take(process.effective, 16);
    else if (key == "CapBnd")
      take(process.bounding, 16);
    else if (key == "NoNewPrivs") {
      take(number, 10);
      process.no_new_privs = number == 1;
    } else if (key == "Seccomp") {
      take(number, 10);
      process.filtered = number == 2;
    }
  }
  process.stopped = state == 'T';
  const bool ended = state == 'Z' || state == 'X';  // fs/proc/array.c, task_state_array
  if (process.name.empty() || found < 5 || ended) return std::nullopt;
  return process;
}

std::optional<std::uint64_t> parse_descriptor_limit(std::string_view limits) {
  constexpr std::string_view kLine = "Max open files";
  const auto begin = limits.find(kLine);
  if (begin == std::string_view::npos) return std::nullopt;
  limits.remove_prefix(begin + kLine.size());
  limits.remove_prefix(std::min(limits.find_first_not_of(' '), limits.size()));
  return parse(limits, 10);
}

std::vector<RunningProcess> read_processes(const std::string& instance) {
  const auto relay = process_of_instance(instance);
  if (!relay || !is_run(*relay)) return {};
  std::vector<pid_t> pids{*relay};
  for (const pid_t child : children_of(pids.front())) pids.push_back(child);
  std::vector<RunningProcess> processes;
  for (const pid_t pid : pids) {
    if (auto process = parse_status(pid, read_text(fmt::format("/proc/{}/status", pid))))
      processes.push_back(std::move(*process));
  }
  if (!processes.empty()) {
    RunningProcess& first = processes.front();
    first.most_descriptors = parse_descriptor_limit(read_text(fmt::format("/proc/{}/limits", first.pid)));
  }
  return processes;
}

/// It lives and does nothing.
Findings check_stopped(const Judged& judged) {
  Findings findings;
  for (const RunningProcess& process : judged.processes) {
    if (!process.stopped) continue;
    const bool relays = &process == &judged.processes.front();
    Remedy remedy;
    remedy.commands = {{"kill", "-CONT", std::to_string(process.pid)}};
    remedy.advice = "or restart the instance";
    findings.push_back(failure(
        Group::privileges, "processes",
        fmt::format("{} (pid {}) is stopped: {}", process.name, process.pid,
                    relays ? "what is intercepted waits for it" : "what it does for the instance is left undone"),
        judged.ownership.name, std::move(remedy)));
  }
  return findings;
}

Findings check_processes(const Facts& facts) {
  Findings findings;
  constexpr std::string_view kId = "processes";
  for (const Judged& judged : facts.judged) {
    if (judged.processes.empty()) continue;
    const std::string& name = judged.ownership.name;
    const RunningProcess& relay = judged.processes.front();
    if (std::ranges::find(judged.processes, kKeeper, &RunningProcess::name) == judged.processes.end()) {
      findings.push_back(failure(Group::privileges, kId,
                                 "the process that keeps the rules has ended: nobody repairs, reloads or removes them",
                                 name, advise("restart the instance")));
      append(findings, check_stopped(judged));
      continue;
    }
    if (auto stopped = check_stopped(judged); !stopped.empty()) {
      append(findings, std::move(stopped));
      continue;
    }
    const auto excess = excess_of(relay);
    if (!excess.empty()) {
      findings.push_back(warning(
          Group::privileges, kId,
          fmt::format("the process that relays (pid {}) holds more than it needs: {}", relay.pid,
                      fmt::join(excess, "; ")),
          name,
          advise("leave out --sandbox off; cap_net_admin alone means a kernel before 5.17, where marks need it")));
      continue;
    }
    std::vector<std::string> each;
    each.reserve(judged.processes.size());
    for (const RunningProcess& process : judged.processes) each.push_back(describe(process));
    findings.push_back(ok(Group::privileges, kId, fmt::format("{}", fmt::join(each, "; ")), name));
  }
  return findings;
}

}  // namespace limpid::doctor
