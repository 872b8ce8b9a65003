// One step after the other; each can fail, and then the destructors put everything back.
#include "service/handover.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>
#include <vector>

#include "net/descriptor_channel.h"
#include "relay/handover_records.h"
#include "service/handover_messages.h"

namespace limpid {
namespace {

using Clock = std::chrono::steady_clock;

/// For all workers to stand still: each looks at what it does in turns of milliseconds.
constexpr std::chrono::seconds kFreezePatience{3};
/// Flows wait so long at most for a successor that takes them: less than any peer's own patience.
constexpr std::chrono::seconds kTransferPatience{5};
/// For flows that are on their way into cut-through: most take a few milliseconds. Those that do not stay here.
constexpr std::chrono::milliseconds kLeavePatience{300};
constexpr std::chrono::milliseconds kEndPatience{500};
/// For the successor to have the rules renewed; flows do not wait for it.
constexpr std::chrono::seconds kServingPatience{5};
constexpr std::chrono::milliseconds kPoll{5};

/// Workers that stand still go on, unless it was decided otherwise.
class Thaw {
 public:
  explicit Thaw(std::shared_ptr<FlowFreeze> freeze) noexcept : freeze_(std::move(freeze)) {}
  Thaw(const Thaw&) = delete;
  Thaw& operator=(const Thaw&) = delete;
  Thaw(Thaw&&) = delete;
  Thaw& operator=(Thaw&&) = delete;
  ~Thaw() { freeze_->decide(FlowFreeze::Decision::thaw); }

 private:
  std::shared_ptr<FlowFreeze> freeze_;
};

/// Flows leave for cut-through again, unless they are somebody else's by then.
class KeptFlows {
 public:
  explicit KeptFlows(Relay& relay) : relay_(relay) { relay_.keep_flows(true); }
  KeptFlows(const KeptFlows&) = delete;
  KeptFlows& operator=(const KeptFlows&) = delete;
  KeptFlows(KeptFlows&&) = delete;
  KeptFlows& operator=(KeptFlows&&) = delete;
  ~KeptFlows() {
    if (!gone_) relay_.keep_flows(false);
  }
  void leave() noexcept { gone_ = true; }

 private:
  Relay& relay_;
  bool gone_ = false;
};

/// Tells the successor that it is not to begin after all, or sees to it that it does not: before workers go on.
class Recall {
 public:
  Recall(const std::optional<DescriptorChannel>& channel, pid_t& pid, RulesKeeper& keeper) noexcept
      : channel_(channel), pid_(pid), keeper_(keeper) {}
  Recall(const Recall&) = delete;
  Recall& operator=(const Recall&) = delete;
  Recall(Recall&&) = delete;
  Recall& operator=(Recall&&) = delete;
  ~Recall() {
    if (done_ || pid_ <= 0) return;
    const auto recall = refuse_message("the running instance goes on by itself");
    if (channel_->valid() && channel_->send(recall, {}, Clock::now())) return;
    std::ignore = keeper_.end_successor(std::chrono::milliseconds{0});
    pid_ = 0;
  }
  void leave() noexcept { done_ = true; }

 private:
  const std::optional<DescriptorChannel>& channel_;
  pid_t& pid_;
  RulesKeeper& keeper_;
  bool done_ = false;
};

class Handover {
 public:
  Handover(const HandoverParts& parts, std::chrono::milliseconds patience)
      : parts_(parts), patience_(patience), deadline_(Clock::now() + patience) {}

  HandoverOutcome run() {
    if (auto done = begin(); !done) outcome_.failure = std::move(done.error());
    if (outcome_.failure) give_up();
    return std::move(outcome_);
  }

 private:
  [[nodiscard]] Status begin() {
    auto ends = DescriptorChannel::open();
    if (!ends) return std::unexpected(ends.error());
    channel_.emplace(std::move(ends->first));
    auto started = parts_.keeper.start_successor(ends->second.get());
    ends->second.reset();
    if (!started) return not_started(started.error());
    outcome_.pid = *started;
    parts_.log.info("upgrade: the program was started anew",
                    {field("successor", static_cast<std::uint64_t>(outcome_.pid)), field("program", parts_.program)});
    const auto hello = hear("it does not speak to us");
    if (!hello) return std::unexpected(hello.error());
    const auto version = read_hello(hello->bytes);
    if (!version) return wrong("what it says makes no sense");
    if (*version != kHandoverVersion) {
      return failure("upgrade", parts_.program,
                     fmt::format("it speaks version {} of the handover, this one {}", *version, kHandoverVersion),
                     "restart instead");
    }
    KeptFlows kept(parts_.relay);
    const auto until = Clock::now() + kLeavePatience;
    while (parts_.relay.leaving_flows() > 0 && Clock::now() < until) poll(nullptr, 0, static_cast<int>(kPoll.count()));
    if (auto shown = show_instance(); !shown) return shown;
    const auto ready = hear("it is not ready");
    if (!ready) return std::unexpected(ready.error());
    if (!is_plain(ready->bytes, HandoverMessage::ready)) return wrong("what it says makes no sense");
    if (auto moved = move_flows(); !moved) return moved;
    kept.leave();
    return {};
  }

  [[nodiscard]] Status show_instance() {
    const auto& ownership = parts_.plan.inputs.ownership;
    const auto& doors = parts_.doors;
    const auto listeners = parts_.relay.listener_descriptors();
    const HandedInstance instance{.name = ownership.name,
                                  .backend = ownership.backend,
                                  .mark = ownership.mark,
                                  .table = ownership.table,
                                  .priority = ownership.priority,
                                  .listener = ownership.listener,
                                  .workers = static_cast<std::uint32_t>(listeners.size()),
                                  .cut_through = parts_.cut_through,
                                  .control_path = doors.control >= 0 ? doors.control_path : "",
                                  .metrics_address = doors.metrics >= 0 ? doors.metrics_address : "",
                                  .dashboard_address = doors.dashboard >= 0 ? doors.dashboard_address : ""};
    std::vector<int> descriptors{parts_.instance_lock};
    for (const int door : {doors.control, doors.metrics, doors.dashboard}) {
      if (door >= 0) descriptors.push_back(door);
    }
    if (auto sent = channel_->send(instance_message(instance), descriptors, deadline_); !sent)
      return said_instead(sent.error());
    for (std::size_t worker = 0; worker < listeners.size(); ++worker) {
      const auto& own = listeners[worker];
      std::vector<int> all = own.tcp;
      all.insert(all.end(), own.udp.begin(), own.udp.end());
      const auto message = listeners_message({.worker = static_cast<std::uint16_t>(worker),
                                              .tcp = static_cast<std::uint8_t>(own.tcp.size()),
                                              .udp = static_cast<std::uint8_t>(own.udp.size())});
      if (auto sent = channel_->send(message, all, deadline_); !sent) return said_instead(sent.error());
    }
    return {};
  }

  /// Workers stand still in here. On success they have parted from what was handed over.
  [[nodiscard]] Status move_flows() {
    const auto began = Clock::now();
    const auto freeze = parts_.relay.freeze();
    const Thaw thaw(freeze);
    Recall recall(channel_, outcome_.pid, parts_.keeper);  // goes first
    if (!freeze->await(began + kFreezePatience))
      return failure("upgrade", "", "a worker did not come to a stop",
                     "try again; see limpid status for what it is busy with");
    const auto deadline = began + std::min<std::chrono::milliseconds>(kTransferPatience, patience_);
    HandedTotals totals;
    for (const WorkerState& state : freeze->states()) {
      for (const HandoverPacket& packet : state.packets) {
        if (auto sent = channel_->send(packet.bytes, packet.descriptors, deadline); !sent)
          return said_instead(sent.error());
      }
      totals.flows += state.flows;
      totals.sessions += state.sessions;
      outcome_.stays += state.stays;
    }
    if (auto sent = channel_->send(counts_message(count_all()), {}, deadline); !sent) return said_instead(sent.error());
    if (auto sent = channel_->send(totals_message(HandoverMessage::end, totals), {}, deadline); !sent)
      return said_instead(sent.error());
    const auto taken = channel_->receive(deadline);
    if (!taken) return said_instead(taken.error());
    if (const auto why = read_refusal(taken->bytes)) return wrong(*why);
    if (read_totals(taken->bytes, HandoverMessage::taken) != totals) return wrong("it has not taken everything");
    // The last moment in which it may turn out to be gone. A message that was sent is read, or its reader is dead, and with it what it had taken.
    if (auto sent = channel_->send(plain_message(HandoverMessage::go), {}, deadline); !sent)
      return said_instead(sent.error());
    outcome_.pause = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - began);
    outcome_.flows = totals.flows;
    outcome_.sessions = totals.sessions;
    recall.leave();
    freeze->decide(FlowFreeze::Decision::part);
    parts_.keeper.leave();
    parts_.supervisor.main_process(outcome_.pid);
    std::ignore = channel_->send(plain_message(HandoverMessage::farewell), {}, Clock::now() + kEndPatience);
    // Who has ordered it may rely on what it was ordered for: the new configuration, for one.
    std::ignore = channel_->receive(Clock::now() + kServingPatience);
    return {};
  }

  [[nodiscard]] HandedCounts count_all() const {
    HandedCounts counts;
    for (std::size_t i = 0; i < kCounterCount; ++i) {
      const auto counter = static_cast<Counter>(i);
      counts.counters.emplace_back(to_string(counter), parts_.relay.count(counter));
    }
    // Those that stay end here, where nobody asks for counters any more.
    for (auto& [name, value] : counts.counters) {
      if (name == to_string(Counter::flows_ended)) value += outcome_.stays;
    }
    counts.sessions_without_us = parts_.relay.offloaded_sessions();
    return counts;
  }

  /// The next packet. Meanwhile signals are heard.
  [[nodiscard]] Result<DescriptorChannel::Packet> hear(std::string_view otherwise) {
    for (;;) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline_ - Clock::now());
      if (left.count() <= 0) return wrong(fmt::format("{} in time", otherwise));
      const int signal = keep_until_signal(parts_.signal_fd, nullptr, left, channel_->descriptor());
      if (signal == 0 || signal == SIGUSR1 || signal == SIGUSR2) continue;
      if (signal != kSomebodyAsks) {
        outcome_.signal = signal;
        return wrong("a signal came first");
      }
      auto packet = channel_->receive(deadline_);
      if (!packet) return std::unexpected(said_instead(packet.error()).error());
      if (const auto why = read_refusal(packet->bytes)) return wrong(*why);
      return packet;
    }
  }

  /// Why nothing can be sent or received: the successor may have said it, or else its end tells.
  [[nodiscard]] Status said_instead(const Error& error) {
    if (const auto last = channel_->receive(Clock::now())) {
      if (const auto why = read_refusal(last->bytes)) return wrong(*why);
    }
    if (error.code == ETIMEDOUT) return wrong("it did not take over in time");
    channel_->close();
    outcome_.pid = 0;
    return wrong(parts_.keeper.end_successor(kEndPatience) + "; see what it has said in the log");
  }

  /// Where nobody else knows a remedy, it is the file: missing, half written, or for another machine.
  [[nodiscard]] std::unexpected<Error> not_started(Error error) const {
    if (error.remedy.empty()) {
      error.remedy =
          "everything goes on as before; see that the file is the whole program, for this machine, and "
          "executable: file " +
          parts_.program;
    }
    return std::unexpected(std::move(error));
  }

  [[nodiscard]] std::unexpected<Error> wrong(std::string_view cause) const {
    return failure("upgrade", parts_.program, cause, "everything goes on as before");
  }

  void give_up() {
    if (channel_) channel_->close();
    if (outcome_.pid > 0) std::ignore = parts_.keeper.end_successor(kEndPatience);
    outcome_.pid = 0;
  }

  const HandoverParts& parts_;
  std::chrono::milliseconds patience_;
  Clock::time_point deadline_;
  std::optional<DescriptorChannel> channel_;
  HandoverOutcome outcome_;
};

}  // namespace

HandoverOutcome hand_over(const HandoverParts& parts, std::chrono::milliseconds patience) {
  return Handover(parts, patience).run();
}

}  // namespace limpid
