// Waits by polling: the workers' ends are seen within a blink, and a drain is rare.
#include "service/draining.h"

#include <csignal>
#include <utility>

#include "service/access_log.h"
#include "service/refusal_notice.h"
#include "service/signals.h"

namespace limpid {
namespace {

constexpr std::chrono::milliseconds kDrainPoll{20};
constexpr std::chrono::milliseconds kHandshakePatience{100};

}  // namespace

void drain(Relay& relay, const Logger& log, int signal_fd, std::chrono::milliseconds patience,
           const std::function<void()>& still_draining) {
  // Handshakes that are under way now would be reset with the listeners: most take less than this.
  const int early = next_signal(signal_fd, kHandshakePatience);
  log.info("draining", {field("flows_open", relay.open_flows()),
                        field("at_most_ms", static_cast<std::uint64_t>(patience.count()))});
  relay.drain();
  const auto deadline = std::chrono::steady_clock::now() + patience;
  const auto ends = [](int signal) { return signal != 0 && signal != SIGUSR1 && signal != SIGUSR2; };
  const bool at_once = ends(early);
  const auto is_over = [&] { return relay.finished() && relay.offloaded_flows() == 0; };
  while (!at_once && !is_over() && std::chrono::steady_clock::now() < deadline) {
    const int signal = next_signal(signal_fd, kDrainPoll);
    if (ends(signal)) break;
    if (still_draining) still_draining();
  }
  relay.stop();
  while (!relay.finished()) {
    // Nobody is asked for more time here: a worker that is stuck must not keep its supervisor from ending it.
    [[maybe_unused]] const int ignored = next_signal(signal_fd, kDrainPoll);
  }
}

namespace {

std::pair<std::uint64_t, std::uint64_t> count_up_and_down(const UpstreamGroups& groups) {
  std::uint64_t up = 0;
  std::uint64_t down = 0;
  for (const auto number : groups.at_work()) {
    const auto& group = groups.at(number);
    for (unsigned i = 0; i < group.options().members.size(); ++i) ++(group.state(i).up ? up : down);
  }
  return {up, down};
}

/// A line for each upstream: their names are nothing that a counter's name could be made of.
void log_upstreams(const Logger& log, const UpstreamGroups& groups) {
  for (const auto number : groups.at_work()) {
    const auto& group = groups.at(number);
    for (unsigned i = 0; i < group.options().members.size(); ++i) {
      const auto state = group.state(i);
      log.info("upstream", {field("upstream", group.member(i).name), field("group", group.options().name),
                            field("state", state.up ? "up" : "down"), field("flows", state.flows),
                            field("failures", state.failures), field("latency_us", state.latency_us)});
    }
  }
}

/// What a client that is reset cannot tell from a server that refuses it.
void tell_of_refusals(RefusalNotice& notice, const Relay& relay, const RelaySettings& settings, const Logger& log,
                      bool last) {
  const auto refused = notice.due(relay.count(Counter::refused_limit), RefusalNotice::Clock::now(), last);
  if (refused == 0) return;
  const bool by_flag = settings.max_flows != 0 && relay.max_flows() == settings.max_flows;
  log.warning("connections were refused: there is no room for more flows",
              {field("refused", refused), field("limit", relay.max_flows()),
               field("because", by_flag ? "--max-flows" : "the hard limit of open files"),
               field("remedy", by_flag ? "a larger --max-flows, or none"
                                       : "raise it: ulimit -Hn, or LimitNOFILE= in the unit, and restart")});
}

}  // namespace

void log_counters(const Logger& log, std::string_view message, const Relay& relay, const std::vector<Field>& more) {
  std::vector<Field> fields;
  fields.push_back(field("flows_open", relay.open_flows()));
  for (std::size_t i = 0; i < kCounterCount; ++i) {
    const auto counter = static_cast<Counter>(i);
    fields.push_back(field(to_string(counter), relay.count(counter)));
  }
  if (relay.offloads()) {
    fields.push_back(field("cut_through_open", relay.offloaded_flows()));
    fields.push_back(field("udp_cut_through_open", relay.offloaded_sessions()));
    for (std::size_t i = 0; i < kStayReasonCount; ++i) {
      const auto reason = static_cast<StayReason>(i);
      fields.push_back(field(to_string(reason), relay.stayed(reason)));
    }
  }
  if (relay.upstreams() != nullptr) {
    const auto [up, down] = count_up_and_down(*relay.upstreams());
    fields.push_back(field("upstreams_up", up));
    fields.push_back(field("upstreams_down", down));
  }
  fields.insert(fields.end(), more.begin(), more.end());
  if (relay.upstreams() != nullptr) log_upstreams(log, *relay.upstreams());
  log.info(message, fields);
}

void serve_with_access_log(Relay& relay, const RelaySettings& settings, const Logger& log,
                           const std::function<void()>& serve) {
  AccessLog::Losses losses;
  RefusalNotice refusals(relay.count(Counter::refused_limit));
  {
    AccessLog access_log(relay,
                         {.format = settings.access_log_format.value_or(settings.log.format),
                          .output = !settings.access_log          ? AccessLog::Output::nowhere
                                    : settings.access_log_journal ? AccessLog::Output::journal
                                                                  : AccessLog::Output::standard_output,
                          .most_per_second = settings.access_log_rate,
                          .each_round = [&](bool last) { tell_of_refusals(refusals, relay, settings, log, last); }},
                         log);
    serve();
    access_log.finish();
    losses = access_log.losses();
  }
  log_counters(log, "stopped", relay);
  if (losses.lines > 0)
    log.warning("access log lines were lost", {field("cause", losses.cause), field("lines", losses.lines)});
}

}  // namespace limpid
