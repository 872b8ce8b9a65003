// getpwnam_r, and the order in which privileges are given up: groups first, while that is still permitted.
#include "exec/user.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <vector>

namespace limpid {
namespace {

constexpr std::size_t kEntryBytes = std::size_t{16} << 10U;

}  // namespace

Result<UserIdentity> find_user(const std::string& name_or_number) {
  std::vector<char> buffer(kEntryBytes);
  passwd entry{};
  passwd* found = nullptr;
  int code = ::getpwnam_r(name_or_number.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (found == nullptr) {
    uid_t number = 0;
    const char* last = name_or_number.data() + name_or_number.size();
    const auto [end, error] = std::from_chars(name_or_number.data(), last, number);
    if (error == std::errc{} && end == last) {
      code = ::getpwuid_r(number, &entry, buffer.data(), buffer.size(), &found);
    }
  }
  if (found == nullptr && code != 0 && code != ENOENT) return system_error(code, "look up user", name_or_number);
  if (found == nullptr)
    return usage_error("--user", name_or_number, "no user of that name",
                       "give a name that `getent` knows, or a number");
  return UserIdentity{.name = found->pw_name, .user = found->pw_uid, .group = found->pw_gid};
}

Status become_user(const UserIdentity& identity) {
  if (::initgroups(identity.name.c_str(), identity.group) != 0 || ::setgid(identity.group) != 0 ||
      ::setuid(identity.user) != 0) {
    return system_error(errno, "become user", identity.name,
                        "needs root; in a network of one user's own there is only that user");
  }
  return {};
}

}  // namespace limpid
