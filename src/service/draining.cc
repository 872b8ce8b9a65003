// Waits by polling: the workers' ends are seen within a blink, and a drain is rare.
#include "service/draining.h"

#include <csignal>

#include "service/access_log.h"
#include "service/signals.h"

namespace limpid {
namespace {

constexpr std::chrono::milliseconds kDrainPoll{20};
constexpr std::chrono::milliseconds kHandshakePatience{100};

}  // namespace

void drain(Relay& relay, const Logger& log, int signal_fd, std::chrono::milliseconds patience) {
  // Handshakes that are under way now would be reset with the listeners: most take less than this.
  const int early = next_signal(signal_fd, kHandshakePatience);
  log.info("draining", {field("flows_open", relay.open_flows()),
                        field("at_most_ms", static_cast<std::uint64_t>(patience.count()))});
  relay.drain();
  const auto deadline = std::chrono::steady_clock::now() + patience;
  const bool at_once = early != 0 && early != SIGUSR1;
  const auto is_over = [&] { return relay.finished() && relay.offloaded_flows() == 0; };
  while (!at_once && !is_over() && std::chrono::steady_clock::now() < deadline) {
    const int signal = next_signal(signal_fd, kDrainPoll);
    if (signal != 0 && signal != SIGUSR1) break;
  }
  relay.stop();
  while (!relay.finished()) [[maybe_unused]]
    const int ignored = next_signal(signal_fd, kDrainPoll);
}

void log_counters(const Logger& log, std::string_view message, const Relay& relay, const std::vector<Field>& more) {
  std::vector<Field> fields;
  fields.push_back(field("flows_open", relay.open_flows()));
  for (std::size_t i = 0; i < kCounterCount; ++i) {
    const auto counter = static_cast<Counter>(i);
    fields.push_back(field(to_string(counter), relay.count(counter)));
  }
  if (relay.offloads()) {
    fields.push_back(field("cut_through_open", relay.offloaded_flows()));
    for (std::size_t i = 0; i < kStayReasonCount; ++i) {
      const auto reason = static_cast<StayReason>(i);
      fields.push_back(field(to_string(reason), relay.stayed(reason)));
    }
  }
  fields.insert(fields.end(), more.begin(), more.end());
  log.info(message, fields);
}

void serve_with_access_log(Relay& relay, const RelaySettings& settings, const Logger& log,
                           const std::function<void()>& serve) {
  std::uint64_t unwritten = 0;
  {
    const AccessLog access_log(relay, settings.log.format,
                               settings.access_log ? AccessLog::Output::standard_output : AccessLog::Output::nowhere);
    serve();
    unwritten = access_log.unwritten();
  }
  log_counters(log, "stopped", relay);
  if (unwritten > 0)
    log.warning("access log lines were lost: nobody read standard output", {field("lines", unwritten)});
}

}  // namespace limpid
