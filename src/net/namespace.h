// Network and user namespaces: make one, enter one, hold one open.
#pragma once

#include <string>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// Opens the network namespace of this thread.
[[nodiscard]] Result<UniqueFd> current_network_namespace();

/// Moves the calling thread into the network namespace behind `descriptor`.
[[nodiscard]] Status enter_network_namespace(int descriptor);

/// Puts the calling process, which must be single-threaded, into new user and network namespaces in which it is root. For
/// people without privileges; the error says which sysctl forbids it.
[[nodiscard]] Status become_root_in_user_namespace();

/// Puts the calling thread into a new, empty network namespace and brings its loopback interface up.
[[nodiscard]] Status enter_new_network_namespace();

/// True when the calling thread holds the capability (CAP_NET_ADMIN, …) in its effective set.
[[nodiscard]] bool has_capability(int capability);

}  // namespace limpid
