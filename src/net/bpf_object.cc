// See bpf_object.h. What libbpf prints is kept for the error message instead: a line of the verifier's says more than its errno.
// Kept for each thread, because several may load at once.
#include "net/bpf_object.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <system_error>

namespace limpid {
namespace {

constexpr std::size_t kMostMaps = 16;

std::string& complaint() {
  thread_local std::string text;
  return text;
}

[[gnu::format(printf, 2, 0)]] int keep_complaint(libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  std::array<char, 512> text{};
  std::vsnprintf(text.data(), text.size(), format, arguments);
  std::string line(text.data());
  line.erase(std::ranges::find(line, '\n'), line.end());
  if (!line.empty() && line.find("-- ") == std::string::npos) complaint() = line;
  return 0;
}

}  // namespace

void listen_to_libbpf() {
  libbpf_set_print(&keep_complaint);
  complaint().clear();
}

std::unexpected<Error> bpf_error(int code, std::string_view operation, std::string_view object) {
  if (code == EPERM)
    return unsupported(operation, object, "not permitted",
                       "needs root in the initial user namespace (CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN)");
  return system_error(code, operation, object);
}

std::unexpected<Error> load_error(int code, std::string_view programs) {
  if (code == EPERM) return bpf_error(code, "load", programs);
  std::string cause = std::generic_category().message(code);
  if (!complaint().empty()) cause += ": " + complaint();
  return unsupported("load", programs, cause,
                     "needs Linux 6.1 or later with CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_BPF");
}

UniqueFd copy_of(int fd) {
  return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
}

bpf_prog_info info_of_program(int program_fd) {
  bpf_prog_info info{};
  std::uint32_t length = sizeof info;
  if (bpf_obj_get_info_by_fd(program_fd, &info, &length) != 0) info = {};
  return info;
}

bpf_map_info info_of_map(int map_fd) {
  bpf_map_info info{};
  std::uint32_t length = sizeof info;
  if (bpf_obj_get_info_by_fd(map_fd, &info, &length) != 0) info = {};
  return info;
}

std::map<std::string, UniqueFd, std::less<>> maps_of(int program_fd) {
  std::array<std::uint32_t, kMostMaps> ids{};
  bpf_prog_info info{};
  info.nr_map_ids = ids.size();
  info.map_ids = reinterpret_cast<std::uintptr_t>(ids.data());
  std::uint32_t length = sizeof info;
  std::map<std::string, UniqueFd, std::less<>> maps;
  if (bpf_obj_get_info_by_fd(program_fd, &info, &length) != 0) return maps;
  for (std::size_t i = 0; i < std::min<std::size_t>(info.nr_map_ids, ids.size()); ++i) {
    UniqueFd map(bpf_map_get_fd_by_id(ids[i]));
    const bpf_map_info facts = map.valid() ? info_of_map(map.get()) : bpf_map_info{};
    if (facts.id != 0) maps.emplace(std::string(facts.name, ::strnlen(facts.name, sizeof facts.name)), std::move(map));
  }
  return maps;
}

}  // namespace limpid
