// The locks of install.h: one for each instance, one for the time of planning, one for each verb that traces. All are listening abstract Unix
// sockets: they belong to a network namespace, end with their owner however it ends, and leave no file (unix(7)).
#include <fmt/format.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <sstream>

#include "base/file_text.h"
#include "intercept/install.h"

namespace limpid {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kPlanningPatience{10};
// Nobody accepts: everyone who asks for the owner stays in the queue until the lock ends.
constexpr int kBacklog = 4096;

struct AbstractAddress {
  sockaddr_un native{};
  socklen_t length = 0;
};

AbstractAddress abstract_address(std::string_view name) {
  AbstractAddress address;
  address.native.sun_family = AF_UNIX;
  // sun_path[0] stays NUL: the abstract namespace. Names are short: at most "limpid/instance/" and 16 characters.
  std::memcpy(address.native.sun_path + 1, name.data(), name.size());
  address.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  return address;
}

const sockaddr* generic(const AbstractAddress& address) {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): what bind(2) and connect(2) ask for
  return reinterpret_cast<const sockaddr*>(&address.native);
}

Result<UniqueFd> unix_socket() {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket.valid()) return system_error(errno, "open", "Unix socket");
  return socket;
}

/// The lock, or an invalid descriptor when somebody has it.
Result<UniqueFd> try_to_own(const AbstractAddress& address, std::string_view object) {
  auto socket = unix_socket();
  if (!socket) return socket;
  if (::bind(socket->get(), generic(address), address.length) != 0) {
    if (errno == EADDRINUSE) return UniqueFd();
    return system_error(errno, "lock", object);
  }
  if (::listen(socket->get(), kBacklog) != 0) return system_error(errno, "lock", object);
  return socket;
}

struct Holder {
  UniqueFd connection;        ///< hangs up when the lock is given up
  pid_t pid = 0;              ///< 0: unknown
  std::string text;           ///< "pid 812"
  bool may_be_limpid = true;  ///< it could change rules; nobody else has a reason to hold a lock of ours
};

/// Whether who took a lock has CAP_NET_ADMIN here, and had no need to become somebody else for that: any user may take it and then run su(1), or make a user
/// namespace in which it has every capability (user_namespaces(7)). One that is gone has it not.
bool may_change_network(const ucred& holder) {
  const std::string folder = fmt::format("/proc/{}/", holder.pid);
  std::istringstream lines(read_text(folder + "status"));
  bool capable = false;
  bool same_user = false;
  for (std::string word; lines >> word;) {
    std::uint64_t capabilities = 0;
    uid_t real = 0;
    uid_t effective = 0;
    if (word == "Uid:" && lines >> real >> effective) same_user = effective == holder.uid;
    if (word == "CapEff:" && lines >> std::hex >> capabilities) capable = (capabilities >> CAP_NET_ADMIN & 1U) != 0;
  }
  // Of another namespace, which may be read by anybody, the ids are others than of ours.
  return capable && same_user && read_text(folder + "uid_map") == read_text("/proc/self/uid_map");
}

/// Who has the lock. SO_PEERCRED of a connection is who called listen(2) (unix(7)).
Result<Holder> find_holder(const AbstractAddress& address) {
  auto socket = unix_socket();
  if (!socket) return std::unexpected(socket.error());
  Holder holder{.connection = std::move(*socket), .text = "another process"};
  if (::connect(holder.connection.get(), generic(address), address.length) != 0) {
    holder.connection.reset();
    return holder;
  }
  ucred credentials{};
  socklen_t length = sizeof(credentials);
  if (::getsockopt(holder.connection.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0 &&
      credentials.pid > 0) {
    holder.pid = credentials.pid;
    holder.text = fmt::format("pid {}", credentials.pid);
    // Anybody may bind an abstract name; the operator should see that it was not one of ours.
    if (credentials.uid != 0 && credentials.uid != ::geteuid()) {
      holder.text += fmt::format(" of user {}", credentials.uid);
      holder.may_be_limpid = may_change_network(credentials);
    }
  }
  return holder;
}

}  // namespace

Result<UniqueFd> lock_instance(const std::string& name) {
  if (auto valid = check_instance_name(name); !valid) return std::unexpected(valid.error());
  const std::string object = fmt::format("instance \"{}\"", name);
  const AbstractAddress address = abstract_address("limpid/instance/" + name);
  auto lock = try_to_own(address, object);
  if (!lock || lock->valid()) return lock;
  auto holder = find_holder(address);
  return failure("lock", object, fmt::format("held by {}", holder ? holder->text : "another process"),
                 "stop it first, or choose another --name");
}

Status renew_instance_lock(const UniqueFd& lock) {
  // Once more on a listening socket: it takes the credentials of who calls (unix_listen in net/unix/af_unix.c).
  if (::listen(lock.get(), kBacklog) != 0) return system_error(errno, "renew", "the instance's lock");
  return {};
}

namespace {

std::optional<Holder> find_instance(const std::string& name) {
  if (!check_instance_name(name)) return std::nullopt;
  auto holder = find_holder(abstract_address("limpid/instance/" + name));
  if (!holder || !holder->connection.valid()) return std::nullopt;
  return std::move(*holder);
}

}  // namespace

std::optional<std::string> holder_of_instance(const std::string& name) {
  const auto holder = find_instance(name);
  return holder ? std::optional(holder->text) : std::nullopt;
}

std::optional<pid_t> process_of_instance(const std::string& name) {
  const auto holder = find_instance(name);
  return holder && holder->pid > 0 ? std::optional(holder->pid) : std::nullopt;
}

namespace {

Result<UniqueFd> wait_for_lock(std::string_view name, std::string_view object) {
  const AbstractAddress address = abstract_address(name);
  const auto deadline = Clock::now() + kPlanningPatience;
  std::string holder_text = "another process";
  while (true) {
    auto lock = try_to_own(address, object);
    if (!lock || lock->valid()) return lock;
    auto holder = find_holder(address);
    if (!holder) return std::unexpected(holder.error());
    // Any user may bind an abstract name, and would hold up every start and repair: who can change no rules excludes nobody.
    if (!holder->may_be_limpid) return UniqueFd();
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) {
      return failure("lock", object, fmt::format("held by {} for more than ten seconds", holder_text),
                     "end that process, then try again");
    }
    // The lock was given up between the two calls: try again. Otherwise the end of the lock resets our connection.
    if (!holder->connection.valid()) {
      ::poll(nullptr, 0, 5);  // or it is held by somebody who does not listen: do not spin on that
      continue;
    }
    holder_text = holder->text;
    pollfd hang_up{.fd = holder->connection.get(), .events = 0, .revents = 0};
    if (::poll(&hang_up, 1, static_cast<int>(left.count())) < 0 && errno != EINTR) {
      return system_error(errno, "lock", object);
    }
  }
}

}  // namespace

Result<UniqueFd> lock_rules(const std::string& name) {
  if (auto valid = check_instance_name(name); !valid) return std::unexpected(valid.error());
  return wait_for_lock("limpid/rules/" + name, fmt::format("rules of instance \"{}\"", name));
}

Result<UniqueFd> lock_planning() {
  return wait_for_lock("limpid/planning", "planning");
}

Result<UniqueFd> lock_tracing(std::string_view what) {
  return wait_for_lock(fmt::format("limpid/{}", what), fmt::format("`limpid {}`", what));
}

}  // namespace limpid
