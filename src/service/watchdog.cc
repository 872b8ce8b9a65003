// One question is out at a time: a stuck worker gets no queue of them.
#include "service/watchdog.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <stop_token>

namespace limpid {
namespace {

/// Held by the question, too: a stuck worker may answer when the watchdog is long gone.
struct Answers {
  std::mutex mutex;
  std::condition_variable_any changed;
  bool complete = false;
};

void beat(const std::stop_token& stop, Relay& relay, const NotifySocket& supervisor,
          std::chrono::microseconds interval) {
  while (!stop.stop_requested()) {
    const auto answers = std::make_shared<Answers>();
    relay.ask_for_progress([answers] {
      const std::lock_guard lock(answers->mutex);
      answers->complete = true;
      answers->changed.notify_all();
    });
    std::unique_lock lock(answers->mutex);
    if (!answers->changed.wait(lock, stop, [&] { return answers->complete; })) return;
    supervisor.alive();
    answers->changed.wait_for(lock, stop, interval, [] { return false; });
  }
}

}  // namespace

Watchdog::Watchdog(Relay& relay, const NotifySocket& supervisor) {
  const auto limit = supervisor.watchdog();
  if (!limit) return;
  // Half of it, as sd_watchdog_enabled(3) recommends.
  thread_ = std::jthread([&relay, &supervisor, interval = *limit / 2](const std::stop_token& stop) {
    beat(stop, relay, supervisor, interval);
  });
}

}  // namespace limpid
