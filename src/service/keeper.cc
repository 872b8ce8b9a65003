// The service's side; the child's is in keeper_process.cc.
#include "service/keeper.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <stop_token>
#include <tuple>
#include <utility>

#include "intercept/heartbeat.h"
#include "service/keeper_process.h"
#include "service/keeper_protocol.h"

namespace limpid {
namespace {

/// More than nft, a trial in a namespace and the wait for lock_planning() take together, unless the host is in trouble: then the order is carried out late.
constexpr std::chrono::seconds kPatience{60};
/// More than run_doctor() gives an examination.
constexpr std::chrono::seconds kDoctorPatience{100};
constexpr std::string_view kRemedy = "restart; what it has left: limpid rules remove";

struct Ends {
  UniqueFd ours;
  UniqueFd theirs;
};

Result<Ends> make_channel() {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return system_error(errno, "make a socket pair", "");
  return Ends{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

/// Counters that one process writes and the other reads.
Result<std::shared_ptr<PlanCondition>> share_condition() {
  static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);
  void* const place = mmap(nullptr, sizeof(PlanCondition), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (place == MAP_FAILED) return system_error(errno, "share", "the state of the rules");
  return std::shared_ptr<PlanCondition>(new (place) PlanCondition, [](PlanCondition* condition) {
    condition->~PlanCondition();
    munmap(condition, sizeof(PlanCondition));
  });
}

}  // namespace

Result<std::unique_ptr<RulesKeeper>> RulesKeeper::start(Job job) {
  auto orders = DescriptorChannel::open();
  if (!orders) return std::unexpected(orders.error());
  auto doctor = make_channel();
  if (!doctor) return std::unexpected(doctor.error());
  auto condition = share_condition();
  if (!condition) return std::unexpected(condition.error());
  const pid_t service = getpid();
  const pid_t pid = fork();
  if (pid < 0) return system_error(errno, "start", "the process that keeps the rules");
  if (pid == 0)
    keep_rules(job, {.orders = orders->second.get(), .doctor = doctor->theirs.get(), .service = service},
               std::move(*condition));
  return std::unique_ptr<RulesKeeper>(new RulesKeeper(pid, std::move(orders->first), std::move(doctor->ours),
                                                      std::move(*condition), job.log,
                                                      job.plan.inputs.ownership.heartbeat));
}

RulesKeeper::~RulesKeeper() {
  if (installed_) std::ignore = remove();
  orders_.close();
  doctor_.reset();
  if (ended_) return;
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void RulesKeeper::note_end() {
  if (std::exchange(ended_, true)) return;
  waitpid(pid_, nullptr, WNOHANG);
  condition_->abandoned = true;
  log_.error(
      "the process that keeps the rules has ended: flows go on, but nobody repairs the rules, reloads them or takes "
      "them away any more",
      {field("remedy", kRemedy)});
}

Result<KeeperReply> RulesKeeper::ask(KeeperRequest request, std::string_view operation,
                                     std::span<const int> descriptors) {
  const auto gone = [&] {
    note_end();
    return failure(operation, "", "the process that keeps the rules has ended", kRemedy);
  };
  if (ended_) return gone();
  request.sequence = ++sequence_;
  const std::string packet = encode(request);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  if (!orders_.send(std::as_bytes(std::span(packet)), descriptors, deadline)) return gone();
  auto reply = receive_reply(orders_, request.sequence, deadline);
  if (!reply && reply.error().code == ETIMEDOUT) {
    auto silent = failure(operation, "", "the process that keeps the rules does not answer", kRemedy);
    silent.error().code = ETIMEDOUT;
    return silent;
  }
  if (!reply) return gone();
  if (!reply->outcome) return std::unexpected(std::move(reply->outcome.error()));
  return reply;
}

/// Twice as often as the heart looks.
void RulesKeeper::start_pulse() {
  pulse_ = std::jthread([condition = condition_](const std::stop_token& stopped) {
    std::mutex mutex;
    std::condition_variable_any wake;
    std::unique_lock lock(mutex);
    while (!stopped.stop_requested()) {
      condition->pulse.fetch_add(1, std::memory_order_relaxed);
      wake.wait_for(lock, stopped, kHeartbeatInterval / 2, [] { return false; });
    }
  });
}

Status RulesKeeper::install() {
  if (has_heart_) start_pulse();
  const auto answer = ask({.order = KeeperOrder::install}, "install");
  if (!answer) return std::unexpected(answer.error());
  installed_ = true;
  watched_ = answer->flag;
  return {};
}

void RulesKeeper::renew() {
  const auto installed = install();
  installed_ = true;
  if (installed) return;
  log_.error(
      "the rules could not be renewed: those of the predecessor stay at work",
      {field("error", installed.error().message()), field("remedy", "mend that, then `limpid reload`, or restart")});
}

Result<bool> RulesKeeper::reload(const Plan& plan) {
  const auto answer = ask({.order = KeeperOrder::reload, .value = digest_of(render_json(plan))}, "reload");
  if (!answer) return std::unexpected(answer.error());
  return answer->flag;
}

Status RulesKeeper::begin_drain() {
  const auto answer = ask({.order = KeeperOrder::begin_drain}, "stop capturing");
  return answer ? Status() : std::unexpected(answer.error());
}

Status RulesKeeper::remove() {
  installed_ = false;
  const auto answer = ask({.order = KeeperOrder::remove}, "remove the rules");
  if (answer) return {};
  log_.error("could not remove everything: rules stay in the kernel", {field("error", answer.error().message())});
  return std::unexpected(answer.error());
}

Result<pid_t> RulesKeeper::start_successor(int channel) {
  const std::array<int, kSuccessorDescriptors> descriptors{channel, STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
  const auto answer = ask({.order = KeeperOrder::start_successor}, "upgrade", descriptors);
  if (!answer && answer.error().code == ETIMEDOUT) {
    // It may start one yet, which nobody waits for: then this comes next. Otherwise it is out of turn.
    const std::string packet = encode({.order = KeeperOrder::end_successor, .sequence = ++sequence_});
    std::ignore = orders_.send(std::as_bytes(std::span(packet)), {}, std::chrono::steady_clock::now());
  }
  if (!answer) return std::unexpected(answer.error());
  return static_cast<pid_t>(answer->number);
}

std::string RulesKeeper::end_successor(std::chrono::milliseconds patience) {
  const auto answer =
      ask({.order = KeeperOrder::end_successor, .value = static_cast<std::uint64_t>(patience.count())}, "upgrade");
  return answer ? answer->text : answer.error().cause;
}

void RulesKeeper::leave() {
  installed_ = false;
  if (const auto answer = ask({.order = KeeperOrder::leave}, "upgrade"); !answer)
    log_.warning("the process that kept the rules could not be told of the successor",
                 {field("error", answer.error().message())});
}

Result<std::string> ask_for_doctor(int channel, DoctorRequest request, int stop) {
  if (send(channel, &request, sizeof request, MSG_NOSIGNAL) < 0)
    return failure("run", "limpid doctor", "the process that may run it has ended", "restart");
  return receive_report(channel, request.sequence, stop, std::chrono::steady_clock::now() + kDoctorPatience);
}

}  // namespace limpid
