// /proc/sys, one small file a key. Those under net belong to the calling thread's network namespace.
#include "net/sysctl.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string>

#include "limpid/unique_fd.h"

namespace limpid {
namespace {

// sysctl(8): dots and slashes change places.
std::string path_of(std::string_view key) {
  std::string path = "/proc/sys/";
  for (const char character : key) {
    if (character == '.') {
      path += '/';
    } else if (character == '/') {
      path += '.';
    } else {
      path += character;
    }
  }
  return path;
}

}  // namespace

Result<std::string> read_sysctl(std::string_view key) {
  const UniqueFd file(::open(path_of(key).c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return system_error(errno, "read sysctl", key);
  // proc_dointvec() and its kin answer a whole value to one read; the longest are a few hundred bytes.
  std::array<char, 4096> buffer{};
  const ssize_t length = ::read(file.get(), buffer.data(), buffer.size());
  if (length < 0) return system_error(errno, "read sysctl", key);
  std::string value(buffer.data(), static_cast<std::size_t>(length));
  while (!value.empty() && value.back() == '\n') value.pop_back();
  return value;
}

Status write_sysctl(std::string_view key, std::string_view value) {
  const UniqueFd file(::open(path_of(key).c_str(), O_WRONLY | O_CLOEXEC));
  if (!file.valid()) return system_error(errno, "write sysctl", key);
  // In one write: proc_dointvec() and its kin take a value only at offset 0.
  const ssize_t written = ::write(file.get(), value.data(), value.size());
  if (written < 0) return system_error(errno, "write sysctl", key);
  if (static_cast<std::size_t>(written) != value.size()) return failure("write sysctl", key, "not taken whole");
  return {};
}

}  // namespace limpid
