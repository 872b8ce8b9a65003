// Where a bpf file system is mounted at /sys/fs/bpf, programs and maps have names there, for bpftool and for people. Programs that
// are attached to interfaces live without; the one for a client's port that comes again is attached by its name.
// /sys/fs/bpf/limpid/NAMESPACE/INSTANCE/…, NAMESPACE being the network namespace's cookie.
#pragma once

#include <string>

#include "intercept/ebpf_programs.h"
#include "limpid/error.h"

namespace limpid {

/// The folder of an instance in this network namespace; empty where no bpf file system is mounted.
[[nodiscard]] std::string pin_folder(const std::string& name);

[[nodiscard]] Status pin_programs(const std::string& name, const EbpfPrograms& programs);
/// Removes exactly what pin_programs() made.
void unpin_programs(const std::string& name);

}  // namespace limpid
