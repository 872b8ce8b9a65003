// The rights themselves are asked for by trying where that changes nothing, and else read: a search for a process tells little where it finds none.
#include "service/client_rights.h"

#include <fmt/format.h>
#include <linux/capability.h>

#include "net/namespace.h"
#include "net/socket_owner.h"

namespace limpid {
namespace {

/// In a unit: the drop-in with all of them, which is installed beside the program.
constexpr const char* kRemedy = "restart it as root; in the unit: install -Dm644 " LIMPID_DROP_INS
                                "/client-programs.conf -t /etc/systemd/system/limpid.service.d && systemctl "
                                "daemon-reload && systemctl restart limpid";

}  // namespace

ClientRights find_client_rights() {
  const bool reads_folders = has_capability(CAP_DAC_READ_SEARCH) || has_capability(CAP_DAC_OVERRIDE);
  return {.processes = has_capability(CAP_SYS_PTRACE) && reads_folders, .cgroups = CgroupNames().may_look()};
}

std::vector<MissingRight> missing_rights(FactSet asked, const ClientRights& rights) {
  std::vector<MissingRight> missing;
  if (asked.has(Fact::process) && !rights.processes) {
    missing.push_back({.what = "rules ask for the program or group of a client (process, gid), and other users' "
                               "processes may not be looked at: only this user's own meet such a condition",
                       .needs = "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"});
  }
  // What the process is told about itself is as good, and takes longer.
  if (asked.has(Fact::cgroup) && !rights.cgroups && !rights.processes) {
    missing.push_back({.what = "rules ask for the cgroup of a client, and cgroups may not be looked at: only this "
                               "user's own processes meet such a condition",
                       .needs = "CAP_DAC_READ_SEARCH and the system call open_by_handle_at"});
  }
  return missing;
}

void warn_of_missing_rights(FactSet asked, const Logger& log) {
  if (!asked.has(Fact::process) && !asked.has(Fact::cgroup)) return;
  for (const MissingRight& each : missing_rights(asked, find_client_rights()))
    log.warning(each.what, {field("needs", each.needs), field("remedy", kRemedy)});
}

}  // namespace limpid
