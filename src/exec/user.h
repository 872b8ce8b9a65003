// Another user for the program of `limpid exec`: looked up before anything is changed, taken on just before the program
// starts.
#pragma once

#include <sys/types.h>

#include <string>

#include "limpid/error.h"

namespace limpid {

struct UserIdentity {
  std::string name;
  uid_t user = 0;
  gid_t group = 0;  ///< the user's login group
};

/// By name or by number, out of the user database.
[[nodiscard]] Result<UserIdentity> find_user(const std::string& name_or_number);

/// User, login group and supplementary groups of the whole process; capabilities go with root. The environment stays.
[[nodiscard]] Status become_user(const UserIdentity& identity);

}  // namespace limpid
