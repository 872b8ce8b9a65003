// Sentences for `systemctl status`, and the order of the words.
#include "service/supervised.h"

#include <fmt/format.h>

#include "base/plural.h"
#include "service/draining.h"

namespace limpid {
namespace {

/// How often the supervisor hears that a drain goes on, and how much time we ask for each time: a word may be late.
constexpr std::chrono::seconds kDrainNews{2};
constexpr std::chrono::seconds kDrainExtension{15};

}  // namespace

NotifySocket take_supervisor(const Logger& log) {
  auto found = NotifySocket::take_from_environment();
  if (found) return *found;
  log.warning("the supervisor cannot be told when the service is ready", {field("error", found.error().message())});
  return {};
}

std::string describe_work(const Scope& scope) {
  std::string text = "Intercepting";
  if (!scope.tcp.empty()) text += " TCP " + scope.tcp.to_string();
  if (!scope.tcp.empty() && !scope.udp.empty()) text += " and";
  if (!scope.udp.empty()) text += " UDP " + scope.udp.to_string();
  return text;
}

std::vector<Error> reload_supervised(Reloader& reloader, const NotifySocket& supervisor) {
  supervisor.reloading();
  auto errors = reloader.reload();
  const std::string work = describe_work(reloader.scope());
  supervisor.ready(errors.empty() ? work : fmt::format("{}; not reloaded: {}", work, errors.front().message()));
  return errors;
}

void drain_supervised(Relay& relay, const Logger& log, int signal_fd, std::chrono::milliseconds patience,
                      const NotifySocket& supervisor) {
  using Clock = std::chrono::steady_clock;
  const auto tell = [&] {
    const auto open = relay.open_flows();
    supervisor.extend(kDrainExtension,
                      fmt::format("Draining: {} {} open", counted(open, "TCP flow"), open == 1 ? "is" : "are"));
  };
  supervisor.stopping("Draining");
  tell();
  auto last = Clock::now();
  drain(relay, log, signal_fd, patience, [&] {
    if (Clock::now() - last < kDrainNews) return;
    tell();
    last = Clock::now();
  });
  supervisor.extend(kDrainExtension, "Removing the rules");
}

}  // namespace limpid
