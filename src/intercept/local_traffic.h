// What interception of this host's own traffic needs beside that of forwarded traffic: rules that know programs, and the
// table that sends on its way what is not intercepted after all.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "intercept/plan.h"
#include "intercept/table_writer.h"
#include "limpid/error.h"

namespace limpid {

/// A path that may go into nft's text: relative to cgroup v2's root, without "..", quotes and control characters. Whether the cgroup
/// exists is looked at when the plan is installed.
[[nodiscard]] Status validate_cgroup(std::string_view path);

/// The error that the client's port cannot be kept where clients are programs of this host. `typed`: the source mode; may be empty.
[[nodiscard]] std::unexpected<Error> refuse_kept_port(std::string_view typed);

/// Whether nft will find the cgroups (it looks below /sys/fs/cgroup); the error says which is missing.
[[nodiscard]] Status require_cgroups(const LocalScope& scope);

/// Statements that are true for the programs: "meta skuid { 0, 1000 }", "socket cgroupv2 level 1 \"user.slice\"".
[[nodiscard]] std::vector<std::string> program_matches(const Programs& programs);

/// The sets and chains for this host's own traffic in the main table. They end in `intercept`, which is the main table's.
void write_local_chains(TableWriter& writer);

/// The definition of the table, in family ip or ip6, that sends packets with the mark `local` on to where they were going.
[[nodiscard]] std::string render_onward_table(const Ownership& ownership, Family family);

/// Of a plan that is installed already, in whatever shape: nft's commands that put back what its sets remember of connections of programs here, to stand behind
/// those that replace its tables, in one transaction: otherwise such connections would not outlive it. Empty: nothing is remembered. Asks nft.
[[nodiscard]] std::string render_remembered(const Plan& plan);

}  // namespace limpid
