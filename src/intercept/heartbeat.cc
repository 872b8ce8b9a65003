// The list of xt_recent is a file for each list name and network namespace: "+ADDRESS" adds an address, or renews its time
// (recent_mt_proc_write in net/netfilter/xt_recent.c). The rules mask every address away, so one entry stands for all.
#include "intercept/heartbeat.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <memory>
#include <mutex>
#include <optional>
#include <tuple>

#include "limpid/unique_fd.h"

namespace limpid {

Status beat_heart(std::string_view list, bool ipv4, bool ipv6) {
  const std::string path = fmt::format("/proc/thread-self/net/xt_recent/{}", list);
  for (const auto& [wanted, entry] :
       {std::pair{ipv4, std::string_view("+0.0.0.0\n")}, std::pair{ipv6, std::string_view("+::\n")}}) {
    if (!wanted) continue;
    // Opened for each: a file of it takes one write, and no pwrite().
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file.valid()) return system_error(errno, "open", path);
    if (::write(file.get(), entry.data(), entry.size()) < 0) return system_error(errno, "write to", path);
  }
  return {};
}

Status beat_heart(const Plan& plan) {
  if (!plan.inputs.ownership.heartbeat) return {};
  return beat_heart(plan.table_name, plan.inputs.scope.ipv4, plan.inputs.scope.ipv6);
}

struct Heartbeat::State {
  std::string list;
  Alive wanted;  ///< the families in scope
  std::atomic<Alive> alive;
};

Heartbeat::Heartbeat(std::shared_ptr<State> state, std::jthread thread) noexcept
    : state_(std::move(state)), thread_(std::move(thread)) {}

Heartbeat Heartbeat::start(const Plan& plan, Alive alive, const std::atomic<std::uint64_t>* pulse) {
  if (!plan.inputs.ownership.heartbeat) return {nullptr, std::jthread()};
  auto state = std::make_shared<State>();
  state->list = plan.table_name;
  state->wanted = {.ipv4 = plan.inputs.scope.ipv4, .ipv6 = plan.inputs.scope.ipv6};
  state->alive = alive;
  // Signals are for the thread that waits for them.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::jthread thread([state, pulse](const std::stop_token& stopped) {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock(mutex);
    std::optional<std::uint64_t> felt;
    while (!stopped.stop_requested()) {
      const Alive now = state->alive;
      const auto counted = pulse != nullptr ? std::optional(pulse->load(std::memory_order_relaxed)) : std::nullopt;
      if (!counted || counted != felt)
        std::ignore = beat_heart(state->list, state->wanted.ipv4 && now.ipv4, state->wanted.ipv6 && now.ipv6);
      felt = counted;
      wake.wait_for(lock, stopped, kHeartbeatInterval, [] { return false; });
    }
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return {std::move(state), std::move(thread)};
}

void Heartbeat::go_on(Alive alive) noexcept {
  if (state_) state_->alive = alive;
}

}  // namespace limpid
