// Sentences for operators and supervisor, what a successor makes its own, and the wait for flows that could not be moved. The handover itself is in handover.cc.
#include "service/upgrading.h"

#include <fmt/format.h>

#include <csignal>
#include <nlohmann/json.hpp>

#include "intercept/install.h"
#include "service/control_reports.h"
#include "service/signals.h"
#include "service/supervised.h"

namespace limpid {
namespace {

constexpr std::chrono::milliseconds kPoll{10};

}  // namespace

OperatorDoors describe_doors(const ControlDoors& doors) {
  OperatorDoors described;
  described.metrics_address = doors.metrics_address;
  described.metrics = doors.metrics.get();
  if (doors.socket) {
    described.control_path = doors.socket->path();
    described.control = doors.socket->listener();
  }
  if (doors.dashboard) {
    described.dashboard_address = doors.dashboard->address;
    described.dashboard = doors.dashboard->listener.get();
  }
  return described;
}

HandoverOutcome upgrade_supervised(const HandoverParts& parts, std::optional<std::chrono::milliseconds> patience,
                                   const Scope& scope) {
  parts.supervisor.upgrading();
  HandoverOutcome outcome = hand_over(parts, patience.value_or(kSuccessorPatience));
  if (outcome.failure) {
    parts.log.error("not upgraded: this process goes on", {field("error", outcome.failure->message())});
    parts.supervisor.ready(fmt::format("{}; not upgraded: {}", describe_work(scope), outcome.failure->message()));
    return outcome;
  }
  parts.log.info("upgraded: another process has taken over",
                 {field("successor", static_cast<std::uint64_t>(outcome.pid)), field("flows", outcome.flows),
                  field("udp_sessions", outcome.sessions), field("stays", outcome.stays),
                  field("pause_us", static_cast<std::uint64_t>(outcome.pause.count()))});
  return outcome;
}

std::string report_upgrade(const HandoverOutcome& outcome) {
  if (outcome.failure) return report_errors({outcome.failure->message()});
  return nlohmann::ordered_json({{"ok", true},
                                 {"pid", outcome.pid},
                                 {"flows", outcome.flows},
                                 {"udp_sessions", outcome.sessions},
                                 {"stays", outcome.stays},
                                 {"pause_us", outcome.pause.count()}})
      .dump();
}

void finish_stays(Relay& relay, const Logger& log, int signal_fd, std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  const auto ends = [](int signal) { return signal != 0 && signal != SIGUSR1 && signal != SIGUSR2; };
  while (!relay.finished() && std::chrono::steady_clock::now() < deadline) {
    if (ends(next_signal(signal_fd, kPoll))) break;
  }
  if (!relay.finished())
    log.warning("flows that could not be handed over are ended", {field("flows", relay.open_flows())});
  relay.stop();
  while (!relay.finished()) [[maybe_unused]]
    const int ignored = next_signal(signal_fd, kPoll);
}

void own_everything(ControlDoors& doors, CutThroughOffload* offload, const UniqueFd& lock, const Logger& log) {
  if (doors.socket) doors.socket->own();
  if (offload != nullptr) offload->own();
  if (auto renewed = renew_instance_lock(lock); !renewed)
    log.warning("the lock of the instance still names the predecessor", {field("error", renewed.error().message())});
}

}  // namespace limpid
