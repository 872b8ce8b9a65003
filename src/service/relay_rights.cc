// Each capability with the reason for it.
#include "service/relay_rights.h"

#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/forked.h"
#include "base/landlock.h"
#include "limpid/unique_fd.h"
#include "policy/rule_set.h"
#include "service/groundwork.h"
#include "service/relay_files.h"
#include "service/relay_syscalls.h"

namespace limpid {
namespace {

bool asks_for_programs(const std::vector<Rule>& rules) {
  const FactSet asked = RuleSet(rules).asks_for();
  return asked.has(Fact::process) || asked.has(Fact::cgroup);
}

/// As `user` where that is permitted; as who it is where it is not.
Status become(const UnprivilegedUser& user, const RelayRights& rights) {
  if (!rights.keeps_user && give_up_privileges(user, rights.capabilities)) return {};
  return limit_capabilities(rights.capabilities);
}

bool raw_may_mark() {
  const auto tried = run_forked([]() -> Result<std::string> {
    constexpr unsigned kRaw = CAP_NET_RAW;
    if (auto limited = limit_capabilities({&kRaw, 1}); !limited) return std::unexpected(limited.error());
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    constexpr std::uint32_t kMark = 1;
    if (setsockopt(socket.get(), SOL_SOCKET, SO_MARK, &kMark, sizeof kMark) != 0)
      return system_error(errno, "mark", "a socket");
    return "";
  });
  return tried.has_value();
}

/// The loader itself says so, as the user that would call it.
bool reads_settings(const ServiceOptions& options, const UnprivilegedUser& user) {
  const auto certificates = certificate_files(options);
  if (!options.load && certificates.empty()) return true;
  const auto tried = run_forked([&]() -> Result<std::string> {
    if (auto became = become(user, {}); !became) return std::unexpected(became.error());
    for (const std::string& file : certificates) {
      if (access(file.c_str(), R_OK) != 0) return system_error(errno, "read", file);
    }
    if (!options.load) return "";
    const auto loaded = options.load();
    if (!loaded) return std::unexpected(loaded.error().front());
    return "";
  });
  return tried.has_value();
}

/// What needs no privilege to be given up. A kernel without it is told of, and nothing else happens.
Status enclose(const ServiceOptions& options, bool handles_programs, const Logger& log) {
  // Whoever is fenced off by Landlock may look at no process outside (hook_ptrace_access_check in security/landlock/task.c).
  const bool looks_at_programs = asks_for_programs(options.rules);
  if (auto fenced = looks_at_programs ? Status() : restrict_files(relay_files(options, handles_programs)); !fenced) {
    if (fenced.error().kind != ErrorKind::unsupported) return fenced;
    log.info("this kernel cannot fence off files for us", {field("because", fenced.error().message())});
  }
  if (auto filtered = filter_syscalls(relay_syscalls(handles_programs)); !filtered) {
    if (filtered.error().kind != ErrorKind::unsupported) return filtered;
    log.warning("system calls are not filtered", {field("because", filtered.error().message())});
  }
  return {};
}

}  // namespace

RelayRights choose_relay_rights(const ServiceOptions& options, const RelaySurroundings& surroundings) {
  // IP_TRANSPARENT and raw sockets; SO_MARK since Linux 5.17.
  RelayRights rights{.capabilities = {CAP_NET_RAW}};
  const auto add = [&](std::initializer_list<unsigned> more) {
    for (const unsigned each : more) {
      if (std::ranges::find(rights.capabilities, each) == rights.capabilities.end())
        rights.capabilities.push_back(each);
    }
  };
  if (!surroundings.raw_may_mark) add({CAP_NET_ADMIN});
  // Clients' own ports may be below 1024; rules of a configuration may ask for them at any time.
  const bool udp_ports = !options.interception.scope.udp.empty() && keeps_port(udp_source(options));
  if (keeps_port(options.source) || udp_ports || options.load) add({CAP_NET_BIND_SERVICE});
  // Other users' processes below /proc, and cgroups by their numbers.
  if (asks_for_programs(options.rules)) add({CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH});
  if (!surroundings.reads_settings) add({CAP_DAC_READ_SEARCH});
  if (surroundings.handles_programs) {
    // TCP_REPAIR and tc; bpf(2), and maps by their numbers.
    add({CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON, CAP_SYS_ADMIN});
    rights.keeps_user = true;
  }
  return rights;
}

Status confine_relay(const ServiceOptions& options, bool handles_programs, const Logger& log) {
  if (!options.sandbox) {
    log.warning("the process that relays keeps all of its rights (--sandbox off)");
    return {};
  }
  const auto user = find_service_user();
  const RelayRights rights =
      choose_relay_rights(options, {.raw_may_mark = raw_may_mark(),
                                    .reads_settings = handles_programs || reads_settings(options, user),
                                    .handles_programs = handles_programs});
  limit_bounding_set({});
  if (auto became = become(user, rights); !became) return became;
  if constexpr (!kSyscallsAreFiltered) {
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);  // a sanitizer reads /proc/self at the end
    return {};
  }
  return enclose(options, handles_programs, log);
}

}  // namespace limpid
