// What the rooms that load eBPF programs share: errors of bpf(2), what libbpf complained about, and the maps of a program that is found in the kernel.
#pragma once

#include <linux/bpf.h>

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// From now on libbpf writes nothing; what it last complained about on this thread is kept.
void listen_to_libbpf();
/// `code` is a positive errno. EPERM says which rights are missing.
[[nodiscard]] std::unexpected<Error> bpf_error(int code, std::string_view operation, std::string_view object);
/// The same for programs that the kernel has not taken: with libbpf's last complaint, and what they need.
[[nodiscard]] std::unexpected<Error> load_error(int code, std::string_view programs);

/// A descriptor of its own, of what a skeleton holds.
[[nodiscard]] UniqueFd copy_of(int fd);
/// All zero where it cannot be asked.
[[nodiscard]] bpf_prog_info info_of_program(int program_fd);
[[nodiscard]] bpf_map_info info_of_map(int map_fd);
/// By the fifteen characters of their names that the kernel keeps.
[[nodiscard]] std::map<std::string, UniqueFd, std::less<>> maps_of(int program_fd);

}  // namespace limpid
