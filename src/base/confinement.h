// Gives up what a running service does not need: the file system, and root. For the whole process, before it has threads.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string>

#include "limpid/error.h"

namespace limpid {

/// Whom a service becomes that needs to be nobody in particular.
struct UnprivilegedUser {
  uid_t user = 65534;
  gid_t group = 65534;
};

/// "nobody" out of the user database, or its usual numbers. To be asked before enter_root_directory().
[[nodiscard]] UnprivilegedUser find_unprivileged_user();
/// "limpid" out of the user database, where packaging has made that user; otherwise the same as find_unprivileged_user().
[[nodiscard]] UnprivilegedUser find_service_user();

/// Closes every descriptor but the standard ones: what a caller has left open is no business of a confined service, and an open
/// directory would lead out of its root. Before anything of the service's own is opened.
void close_inherited_descriptors() noexcept;

/// chroot(2) and chdir(2). An error of kind `usage` where there is no such directory.
[[nodiscard]] Status enter_root_directory(const std::string& directory);

/// Of all capabilities only `kept` (CAP_…) stay, in effect, and those only if they were there; none is inherited by a program that is run later.
[[nodiscard]] Status limit_capabilities(std::span<const unsigned> kept);

/// No capability but `kept` can be had again by running a program. Without CAP_SETPCAP it stays as it is: who sets no_new_privs besides
/// loses nothing by that.
void limit_bounding_set(std::span<const unsigned> kept) noexcept;

/// No capability is left, and no program that is run later gets any back. Whoever may not change its user may still do this.
[[nodiscard]] Status give_up_capabilities();

/// Becomes `user` (if it is root), without supplementary groups, and keeps of all capabilities only `kept` (CAP_…, in effect), and
/// those only if it had them. No program that is run later gets any back.
[[nodiscard]] Status give_up_privileges(const UnprivilegedUser& user, std::span<const unsigned> kept);

}  // namespace limpid
