// ResolverProcess: asks for names again and again, in a process of its own, and tells what has changed. Owned by the main thread of
// a plain relay, and by UpstreamNames, which gives it other names when the configuration does.
//
// A process, for two reasons: it stays outside of a --chroot, where resolv.conf and the resolver's libraries are; and a look-up that
// hangs can be ended, while a thread in getaddrinfo(3) cannot.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/confinement.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "service/target_resolution.h"

namespace limpid {

struct ResolverNews {
  std::uint32_t edition = 0;             ///< of the names: 0, or that of tell()
  std::size_t name = 0;                  ///< which of the names
  std::vector<SocketAddress> addresses;  ///< empty: it could not be resolved
  std::string problem;                   ///< why not
};

class ResolverProcess {
 public:
  struct Options {
    std::vector<TargetName> names;  ///< addresses among them are never asked for
    /// What they were when the process starts: only what differs is news.
    std::vector<std::vector<SocketAddress>> known;
    std::chrono::milliseconds interval{30'000};
    std::optional<UnprivilegedUser> user;  ///< whom it becomes; empty: it stays who we are
  };
  /// Forks: must be called before the first thread starts.
  [[nodiscard]] static Result<ResolverProcess> start(const Options& options);
  ResolverProcess(ResolverProcess&& other) noexcept;
  ResolverProcess& operator=(ResolverProcess&&) = delete;
  ResolverProcess(const ResolverProcess&) = delete;
  ResolverProcess& operator=(const ResolverProcess&) = delete;
  ~ResolverProcess();  ///< ends it

  /// One of `total` other names, which replace those before when all are there, and are asked for at once. False: not now, there is no room in the channel.
  [[nodiscard]] bool tell(std::uint32_t edition, std::size_t index, std::size_t total, const TargetName& name);

  /// Readable when there is news, or when it has ended unexpectedly. Borrowed; -1 once it has.
  [[nodiscard]] int descriptor() const noexcept { return channel_.get(); }
  /// Empty when there is none. An error: it has ended, and there will never be any.
  [[nodiscard]] Result<std::optional<ResolverNews>> next();

 private:
  ResolverProcess(pid_t pid, UniqueFd channel) noexcept : pid_(pid), channel_(std::move(channel)) {}
  pid_t pid_ = -1;
  UniqueFd channel_;
};

}  // namespace limpid
