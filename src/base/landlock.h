// Fences a process off from files by landlock(7), whoever it is and whatever its capabilities are: no file is written, made, removed or run outside of the folders
// named; on demand none is read either. What is open already stays usable, and sockets are not its business.
#pragma once

#include <string>
#include <vector>

#include "limpid/error.h"

namespace limpid {

struct FileRules {
  bool fence_reading = false;  ///< false: reading follows the file system's permissions
  std::vector<std::string>
      readable{};  ///< files and folders, with all that is in them; what is not there is passed over
  std::vector<std::string> writable{};  ///< the same, to be read, written, made and removed
};

/// For this process, which must have one thread, and its children, for good. no_new_privs must be set. The error is of kind `unsupported` where the kernel
/// has no Landlock (since 5.13, and only if it was told to at boot).
[[nodiscard]] Status restrict_files(const FileRules& rules);

}  // namespace limpid
