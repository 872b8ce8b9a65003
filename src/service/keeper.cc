// The service's side; the child's is in keeper_process.cc.
#include "service/keeper.h"

#include <poll.h>
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
#include <utility>

#include "intercept/heartbeat.h"
#include "service/keeper_process.h"
#include "service/keeper_protocol.h"

namespace limpid {
namespace {

/// More than nft, a trial in a namespace and the wait for lock_planning() take together.
constexpr std::chrono::seconds kPatience{60};
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
  auto orders = make_channel();
  if (!orders) return std::unexpected(orders.error());
  auto doctor = make_channel();
  if (!doctor) return std::unexpected(doctor.error());
  auto condition = share_condition();
  if (!condition) return std::unexpected(condition.error());
  const pid_t pid = fork();
  if (pid < 0) return system_error(errno, "start", "the process that keeps the rules");
  if (pid == 0)
    keep_rules(job, {.orders = orders->theirs.get(), .doctor = doctor->theirs.get()}, std::move(*condition));
  return std::unique_ptr<RulesKeeper>(new RulesKeeper(pid, std::move(orders->ours), std::move(doctor->ours),
                                                      std::move(*condition), job.log,
                                                      job.plan.inputs.ownership.heartbeat));
}

RulesKeeper::~RulesKeeper() {
  if (installed_) std::ignore = remove();
  orders_.reset();
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

Result<bool> RulesKeeper::ask(std::uint8_t order, std::uint64_t digest, std::string_view operation) {
  const auto gone = [&] {
    note_end();
    return failure(operation, "", "the process that keeps the rules has ended", kRemedy);
  };
  if (ended_) return gone();
  const std::string request = encode({.order = static_cast<KeeperOrder>(order), .digest = digest});
  if (send(orders_.get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) return gone();
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd wanted{.fd = orders_.get(), .events = POLLIN, .revents = 0};
    if (left.count() <= 0 || poll(&wanted, 1, static_cast<int>(left.count())) == 0)
      return failure(operation, "", "the process that keeps the rules does not answer", kRemedy);
    std::string packet(kMostKeeperReplyBytes, '\0');
    const ssize_t length = recv(orders_.get(), packet.data(), packet.size(), MSG_DONTWAIT);
    if (length < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (length <= 0) return gone();
    packet.resize(static_cast<std::size_t>(length));
    KeeperReply reply = decode_reply(packet);
    if (!reply.outcome) return std::unexpected(std::move(reply.outcome.error()));
    return reply.flag;
  }
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
  const auto answer = ask(static_cast<std::uint8_t>(KeeperOrder::install), 0, "install");
  if (!answer) return std::unexpected(answer.error());
  installed_ = true;
  watched_ = *answer;
  return {};
}

Result<bool> RulesKeeper::reload(const Plan& plan) {
  return ask(static_cast<std::uint8_t>(KeeperOrder::reload), digest_of(render_json(plan)), "reload");
}

Status RulesKeeper::begin_drain() {
  const auto answer = ask(static_cast<std::uint8_t>(KeeperOrder::begin_drain), 0, "stop capturing");
  return answer ? Status() : std::unexpected(answer.error());
}

Status RulesKeeper::remove() {
  installed_ = false;
  const auto answer = ask(static_cast<std::uint8_t>(KeeperOrder::remove), 0, "remove the rules");
  if (answer) return {};
  log_.error("could not remove everything: rules stay in the kernel", {field("error", answer.error().message())});
  return std::unexpected(answer.error());
}

Result<std::string> ask_for_doctor(int channel, std::uint8_t depth, int stop) {
  if (send(channel, &depth, sizeof depth, MSG_NOSIGNAL) < 0)
    return failure("run", "limpid doctor", "the process that may run it has ended", "restart");
  return receive_report(channel, stop);
}

}  // namespace limpid
