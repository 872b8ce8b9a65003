// Tells the kernel that somebody listens, for as long as this process lives: iptables' TPROXY drops where nobody does, so a rule before it
// asks when the heart has last beaten (docs/backends.md).
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "intercept/plan.h"
#include "limpid/error.h"

namespace limpid {

/// One beat: writes into /proc/net/xt_recent/NAME of this thread's network namespace. Fails where no rule has such a list (yet).
[[nodiscard]] Status beat_heart(std::string_view list, bool ipv4, bool ipv6);
/// One beat for a plan; does nothing where it has no heart.
[[nodiscard]] Status beat_heart(const Plan& plan);

/// Beats every 200 ms, in a thread of its own so that nothing else can hold it up, until it is destroyed. Rules that come and go disturb it
/// not: it beats where there is a list. Does nothing for a plan without a heart.
class Heartbeat {
 public:
  /// For which families somebody listens.
  struct Alive {
    bool ipv4 = true;
    bool ipv6 = true;
  };
  /// `pulse`, if given, is counted up by whoever the heart beats for: as long as it stands still, there is no beat. It outlives the heart.
  [[nodiscard]] static Heartbeat start(const Plan& plan, Alive alive,
                                       const std::atomic<std::uint64_t>* pulse = nullptr);
  [[nodiscard]] static Heartbeat start(const Plan& plan) { return start(plan, {.ipv4 = true, .ipv6 = true}); }
  /// For which it beats from now on. From any thread.
  void go_on(Alive alive) noexcept;
  Heartbeat(Heartbeat&&) noexcept = default;
  Heartbeat& operator=(Heartbeat&&) noexcept = default;
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;
  ~Heartbeat() = default;

 private:
  struct State;
  Heartbeat(std::shared_ptr<State> state, std::jthread thread) noexcept;
  std::shared_ptr<State> state_;  ///< shared with the thread; empty: there is no heart
  std::jthread thread_;           ///< stopped and joined when this ends
};

inline constexpr std::chrono::milliseconds kHeartbeatInterval{200};

}  // namespace limpid
