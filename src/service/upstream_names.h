// UpstreamNames: the names of upstreams are looked up again and again, and their groups are told what they mean now. A resolver process, and a thread that
// listens to it. Owned by Upstreams.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/confinement.h"
#include "base/log.h"
#include "limpid/error.h"
#include "service/resolver_process.h"
#include "service/target_resolution.h"
#include "upstream/groups.h"

namespace limpid {

class UpstreamNames {
 public:
  /// Forks: must be called before the first thread starts. `user`: whom the resolver process becomes. What is found is logged by `log`, which outlives this.
  [[nodiscard]] static Result<std::unique_ptr<UpstreamNames>> start(std::chrono::milliseconds interval,
                                                                    std::optional<UnprivilegedUser> user,
                                                                    const Logger& log);
  UpstreamNames(UpstreamNames&&) = delete;
  UpstreamNames& operator=(UpstreamNames&&) = delete;
  UpstreamNames(const UpstreamNames&) = delete;
  UpstreamNames& operator=(const UpstreamNames&) = delete;
  ~UpstreamNames();

  /// Those of the groups at work, from now on; `listeners` are our own, to which no name may lead. The first call starts the thread: signals that others wait for
  /// must be blocked before.
  void follow(const std::shared_ptr<const UpstreamGroups>& groups, std::vector<SocketAddress> listeners);

 private:
  struct Followed {
    UpstreamGroup* group;
    unsigned member;
    TargetName name;
  };
  UpstreamNames(ResolverProcess resolver, UniqueFd wake, const Logger& log)
      : resolver_(std::move(resolver)), wake_(std::move(wake)), log_(log) {}
  void work(const std::stop_token& stopped);
  [[nodiscard]] bool tell_names();
  void take(const ResolverNews& news);

  ResolverProcess resolver_;
  UniqueFd wake_;  ///< an eventfd: there are other names, or it is over
  const Logger& log_;
  std::mutex mutex_;
  std::shared_ptr<const UpstreamGroups>
      groups_;  ///< under the mutex, as all that follows: keeps what `followed_` refers to
  std::vector<SocketAddress> listeners_;
  std::vector<Followed> followed_;
  std::uint32_t edition_ = 0;  ///< of `followed_`
  std::size_t told_ = 0;       ///< how many of them the resolver process knows of
  bool telling_ = false;
  std::jthread thread_;  ///< last: it uses all of the above
};

}  // namespace limpid
