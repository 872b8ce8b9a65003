// glibc has no functions for these calls, and Debian 12's header ends with Linux 6.1: later rights are written down here, from include/uapi/linux/landlock.h.
#include "base/landlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "limpid/unique_fd.h"

namespace limpid {
namespace {

constexpr std::uint64_t kRefer = 1U << 13U;     ///< ABI 2, Linux 5.19
constexpr std::uint64_t kTruncate = 1U << 14U;  ///< ABI 3, Linux 6.2

constexpr std::uint64_t kReading = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr std::uint64_t kFileWriting = LANDLOCK_ACCESS_FS_WRITE_FILE;
constexpr std::uint64_t kFolderWriting =
    LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
    LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
    LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;

std::uint64_t known_to(long abi) {
  std::uint64_t rights = kReading | kFileWriting | kFolderWriting | LANDLOCK_ACCESS_FS_EXECUTE;
  if (abi >= 2) rights |= kRefer;
  if (abi >= 3) rights |= kTruncate;
  return rights;
}

Status allow(int ruleset, const std::string& path, std::uint64_t rights) {
  const UniqueFd file(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!file.valid()) return {};
  struct stat about{};
  if (fstat(file.get(), &about) != 0) return system_error(errno, "look at", path);
  // The kernel refuses rights that make no sense for a file.
  if (!S_ISDIR(about.st_mode)) rights &= ~(kFolderWriting | kRefer | LANDLOCK_ACCESS_FS_READ_DIR);
  const landlock_path_beneath_attr beneath{.allowed_access = rights, .parent_fd = file.get()};
  if (rights != 0 && syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &beneath, 0) != 0)
    return system_error(errno, "fence off", path);
  return {};
}

}  // namespace

Status restrict_files(const FileRules& rules) {
  const long abi = syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (abi < 1)
    return unsupported("fence off", "files", "this kernel has no Landlock",
                       "CONFIG_SECURITY_LANDLOCK, and lsm=landlock,… at boot");
  const std::uint64_t handled = known_to(abi) & ~(rules.fence_reading ? 0 : kReading);
  const landlock_ruleset_attr attributes{.handled_access_fs = handled};
  const UniqueFd ruleset(static_cast<int>(syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0)));
  if (!ruleset.valid()) return system_error(errno, "fence off", "files");
  for (const std::string& path : rules.readable) {
    if (auto done = allow(ruleset.get(), path, kReading & handled); !done) return done;
  }
  for (const std::string& path : rules.writable) {
    if (auto done = allow(ruleset.get(), path, handled & ~LANDLOCK_ACCESS_FS_EXECUTE); !done) return done;
  }
  if (syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) return system_error(errno, "fence off", "files");
  return {};
}

}  // namespace limpid
