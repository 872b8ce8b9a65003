// Waits in one poll for orders, for wishes of the doctor and for news of the rules. It trusts the configuration, which belongs to whoever started it, and nothing
// that comes over a channel: packets that are no order are refused, and an order out of turn is, too.
#include "service/keeper_process.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <tuple>
#include <utility>

#include "base/byte_cursor.h"
#include "base/confinement.h"
#include "control/control_socket.h"
#include "intercept/heartbeat.h"
#include "intercept/install.h"
#include "service/doctor_runs.h"
#include "service/keeper_protocol.h"
#include "service/reload.h"

namespace limpid {
namespace {

constexpr int kOrders = 3;
constexpr int kDoctor = 4;
constexpr int kRulesLock = 5;
constexpr std::chrono::seconds kSendPatience{5};
/// A successor without a predecessor ends within moments: more than that.
constexpr std::chrono::seconds kSuccessorPatience{10};
/// Each look leaves an entry in the queue of the instance's lock, where nobody accepts: by default the kernel takes 128 at least.
constexpr int kPollMs = 100;

/// What rules, their repair and the doctor's trials take (docs/privileges.md); whatever else root may, no program that is started here can.
constexpr auto kKept =
    std::to_array<unsigned>({CAP_NET_ADMIN, CAP_NET_RAW, CAP_NET_BIND_SERVICE, CAP_SYS_ADMIN, CAP_BPF, CAP_PERFMON,
                             CAP_SYS_PTRACE, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_SYS_RESOURCE, CAP_SETUID,
                             CAP_SETGID, CAP_SETPCAP, CAP_SETFCAP, CAP_KILL, CAP_SYS_CHROOT, CAP_FOWNER});

/// Moves the channels and the lock to fixed numbers and closes everything else: above all the listeners, which must end with the service.
bool take_descriptors(KeeperChannels channels, int rules_lock) {
  // First out of the way of each other.
  const int orders = fcntl(channels.orders, F_DUPFD_CLOEXEC, kRulesLock + 1);
  const int doctor = fcntl(channels.doctor, F_DUPFD_CLOEXEC, kRulesLock + 1);
  const int lock = rules_lock >= 0 ? fcntl(rules_lock, F_DUPFD_CLOEXEC, kRulesLock + 1) : -1;
  const int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (orders < 0 || doctor < 0) return false;
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO}) {
    if (nothing >= 0) dup2(nothing, fd);
  }
  if (dup3(orders, kOrders, O_CLOEXEC) < 0 || dup3(doctor, kDoctor, O_CLOEXEC) < 0) return false;
  if (lock >= 0 ? dup3(lock, kRulesLock, O_CLOEXEC) < 0 : (close(kRulesLock), false)) return false;
  return close_range(kRulesLock + 1, ~0U, 0) == 0;
}

class KeeperProcess {
 public:
  KeeperProcess(RulesKeeper::Job& job, pid_t service, DescriptorChannel orders,
                std::shared_ptr<PlanCondition> condition)
      : service_(service),
        options_(job.options),
        plan_(job.plan),
        log_(job.log),
        quiet_({.level = LogLevel::error, .format = job.options.log.format}),
        control_path_(std::move(job.control_path)),
        program_(std::move(job.program)),
        variables_(std::move(job.variables)),
        succeeds_(job.succeeds),
        orders_(std::move(orders)),
        condition_(std::move(condition)) {}

  [[noreturn]] void run() {
    events_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
    if (!listen_to(kOrders) || !listen_to(kDoctor)) _exit(EXIT_FAILURE);
    constexpr timeval kReportPatience{.tv_sec = kSendPatience.count(), .tv_usec = 0};
    setsockopt(kDoctor, SOL_SOCKET, SO_SNDTIMEO, &kReportPatience, sizeof kReportPatience);
    for (;;) {
      std::ignore = keep_until_signal(-1, guard_ ? &*guard_ : nullptr, std::chrono::milliseconds{-1}, events_.get());
      epoll_event event{};
      if (epoll_wait(events_.get(), &event, 1, 0) != 1) continue;
      if (event.data.fd == kOrders) {
        obey();
      } else if (event.data.fd == kDoctor) {
        examine();
      } else {
        note_examined();
      }
    }
  }

 private:
  enum class Stage : std::uint8_t { waiting, installed, draining, removed, succession, left };

  bool listen_to(int descriptor) const {
    epoll_event wanted{.events = EPOLLIN, .data = {.fd = descriptor}};
    return epoll_ctl(events_.get(), EPOLL_CTL_ADD, descriptor, &wanted) == 0;
  }
  void ignore(int descriptor) const { epoll_ctl(events_.get(), EPOLL_CTL_DEL, descriptor, nullptr); }

  void obey() {
    const auto packet = orders_.receive({});
    if (!packet && packet.error().code == ETIMEDOUT) return;
    if (!packet && packet.error().code == EPIPE) end();
    const auto request = packet ? decode_request(as_text(packet->bytes)) : std::nullopt;
    KeeperReply reply = request ? understand(*request, packet->descriptors) : no_order();
    reply.sequence = request ? request->sequence : 0;
    const std::string answer = encode(reply);
    // Nobody may read it any more: then the channel's end comes next.
    std::ignore = orders_.send(std::as_bytes(std::span(answer)), {}, std::chrono::steady_clock::now() + kSendPatience);
  }

  static KeeperReply no_order() { return {.outcome = failure("obey", "", "that is no order")}; }

  KeeperReply understand(const KeeperRequest& request, std::span<const UniqueFd> descriptors) {
    const bool starts = request.order == KeeperOrder::start_successor;
    if (descriptors.size() != (starts ? kSuccessorDescriptors : 0)) return no_order();
    return carry_out(request, descriptors);
  }

  KeeperReply carry_out(const KeeperRequest& request, std::span<const UniqueFd> descriptors) {
    const auto out_of_turn = [] { return KeeperReply{.outcome = failure("obey", "", "this order is out of turn")}; };
    switch (request.order) {
      case KeeperOrder::install: return stage_ == Stage::waiting ? install() : out_of_turn();
      case KeeperOrder::reload: return stage_ == Stage::installed ? reload(request.value) : out_of_turn();
      case KeeperOrder::begin_drain: return stage_ == Stage::installed ? begin_drain() : out_of_turn();
      case KeeperOrder::remove:
        return stage_ == Stage::installed || stage_ == Stage::draining ? remove() : out_of_turn();
      case KeeperOrder::start_successor:
        return stage_ == Stage::installed ? start_successor(descriptors) : out_of_turn();
      case KeeperOrder::end_successor:
        return stage_ == Stage::succession ? end_successor(std::chrono::milliseconds(request.value)) : out_of_turn();
      case KeeperOrder::leave: return stage_ == Stage::succession ? leave() : out_of_turn();
    }
    return out_of_turn();
  }

  /// The service holds lock_planning() meanwhile.
  KeeperReply install() {
    auto installed = install_plan(plan_);
    if (!installed && !succeeds_) return {.outcome = std::move(installed)};
    stage_ = Stage::installed;
    // To the very end: established flows of programs here need the heart as long as they are relayed.
    heartbeat_.emplace(Heartbeat::start(plan_, {}, &condition_->pulse));
    if (installed) watch();
    return {.outcome = std::move(installed), .flag = guard_.has_value()};
  }

  void watch() {
    auto guard = PlanGuard::start(plan_, options_.repair, log_, condition_);
    if (guard) return static_cast<void>(guard_.emplace(std::move(*guard)));
    log_.warning("changes of the rules by others will not be noticed", {field("error", guard.error().message())});
  }

  /// By the very same steps as the service's: what comes of it is the same, or the configuration was changed in between.
  KeeperReply reload(std::uint64_t digest) {
    if (!options_.load) return {.outcome = failure("reload", "", "there is no configuration")};
    auto wanted = options_.load();
    if (!wanted) return {.outcome = std::unexpected(wanted.error().front())};
    auto next = prepare_reload(options_, plan_, *wanted, quiet_);
    if (!next) return {.outcome = std::unexpected(next.error())};
    const std::string text = render_json(*next);
    if (digest_of(text) != digest)
      return {.outcome =
                  failure("reload", "", "the configuration was changed while it was being read", "reload again")};
    const bool changed = text != render_json(plan_);
    if (changed) {
      if (auto replaced = replace_plan(std::move(*next)); !replaced) return {.outcome = std::move(replaced)};
    }
    options_ = std::move(*wanted);
    return {.outcome = {}, .flag = changed};
  }

  Status replace_plan(Plan next) {
    if (auto checked = check_plan(next); !checked) return checked;
    const auto planning_lock = lock_planning();
    if (auto installed = install_plan(next); !installed) {
      // With nftables it is one transaction; with others, half of it may be there.
      std::ignore = install_plan(plan_);
      return installed;
    }
    plan_ = std::move(next);
    if (!guard_) return {};
    if (auto followed = guard_->follow_plan(); !followed)
      log_.warning("changes of the rules by others will not be noticed", {field("error", followed.error().message())});
    return {};
  }

  KeeperReply begin_drain() {
    stage_ = Stage::draining;
    guard_.reset();  // it would put back what is taken away now
    return {.outcome = limpid::begin_drain(plan_)};
  }

  KeeperReply remove() {
    stage_ = Stage::removed;
    guard_.reset();
    heartbeat_.reset();
    return {.outcome = remove_plan(plan_)};
  }

  /// It is not told which program, nor with what environment.
  KeeperReply start_successor(std::span<const UniqueFd> descriptors) {
    // It puts a plan of its own in the place of ours, which must not be put back then.
    guard_.reset();
    const auto started =
        limpid::start_successor(program_,
                                {.channel = descriptors[0].get(),
                                 .rules_lock = kRulesLock,
                                 .standard = {descriptors[1].get(), descriptors[2].get(), descriptors[3].get()}},
                                variables_);
    if (!started) {
      watch_again();
      return {.outcome = std::unexpected(started.error())};
    }
    successor_ = *started;
    stage_ = Stage::succession;
    return {.outcome = {}, .number = static_cast<std::uint64_t>(successor_)};
  }

  KeeperReply end_successor(std::chrono::milliseconds patience) {
    const std::string how = limpid::end_successor(std::exchange(successor_, -1), patience);
    stage_ = Stage::installed;
    watch_again();
    return {.outcome = {}, .text = how};
  }

  KeeperReply leave() {
    stage_ = Stage::left;
    return {};
  }

  /// Nobody has looked for a while.
  void watch_again() {
    watch();
    if (guard_) guard_->look();
  }

  const std::string& name() const { return plan_.inputs.ownership.name; }

  /// Of one that was started, and about which the service can say nothing any more, or may have said what it liked. When it takes over, it takes the lock of the instance; without the
  /// service, it ends at once, unless it has everything already.
  bool has_taken_over() const {
    const auto deadline = std::chrono::steady_clock::now() + kSuccessorPatience;
    while (std::chrono::steady_clock::now() < deadline) {
      int status = 0;
      // Others may have been served by it to an end in order, while flows that could not be handed over were served here.
      if (waitpid(successor_, &status, WNOHANG) != 0) return stage_ == Stage::left && status == 0;
      if (process_of_instance(name()) == successor_) return true;
      poll(nullptr, 0, kPollMs);
    }
    return true;
  }

  /// The service is gone: whether nobody but this process can do now what the fail mode says. May wait for the keeper of a successor, which may be doing it.
  bool answers_for_rules() {
    switch (stage_) {
      case Stage::installed:
      case Stage::draining: return true;
      case Stage::removed: return false;
      case Stage::waiting: {
        // It has died between its beginning and its first order, unless a predecessor has the lock: then there was no beginning, and the rules are that one's.
        if (!succeeds_) return false;
        const auto holder = process_of_instance(name());
        return !holder || *holder == service_;
      }
      case Stage::succession:
      case Stage::left: break;
    }
    if (has_taken_over()) return false;
    close(kRulesLock);  // ours; who else has it keeps the rules
    auto lock = lock_rules(name());
    if (!lock) return false;
    rules_lock_ = std::move(*lock);
    return true;
  }

  /// In a process of its own, because it takes long. Until that has ended, what is asked next stays in the channel: there it ends an examination for which nobody waits
  /// any more.
  void examine() {
    DoctorRequest request;
    const ssize_t length = recv(kDoctor, &request, sizeof request, MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (length <= 0) return ignore(kDoctor);  // nobody asks any more
    if (length != sizeof request) return;
    examination_ = request.sequence;
    doctor_ = fork();
    if (doctor_ == 0) run_examination(request);
    if (doctor_ < 0) return send_report(kDoctor, examination_, system_error(errno, "start", "limpid doctor"));
    doctor_end_ = UniqueFd(static_cast<int>(syscall(SYS_pidfd_open, doctor_, 0U)));
    if (doctor_end_.valid() && listen_to(doctor_end_.get())) return ignore(kDoctor);
    kill(doctor_, SIGKILL);
    waitpid(std::exchange(doctor_, -1), nullptr, 0);
    send_report(kDoctor, examination_, failure("run", "limpid doctor", "its end could not be waited for"));
  }

  void note_examined() {
    int status = 0;
    waitpid(std::exchange(doctor_, -1), &status, 0);
    ignore(doctor_end_.get());
    doctor_end_.reset();
    if (status != 0)
      send_report(kDoctor, examination_,
                  failure("run", "limpid doctor", "its process has made no report", "try again"));
    listen_to(kDoctor);
  }

  [[noreturn]] void run_examination(DoctorRequest request) const {
    // The service must see it when the keeper ends, so nothing of the keeper's may live on here.
    close(kOrders);
    close(kRulesLock);
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    const auto wanted = request.depth == static_cast<std::uint8_t>(DoctorRuns::Depth::probe) ? DoctorRuns::Depth::probe
                                                                                             : DoctorRuns::Depth::look;
    // The other end closes, or asks again: then nobody waits for this one.
    send_report(kDoctor, request.sequence, run_doctor(name(), wanted, kDoctor));
    _exit(EXIT_SUCCESS);
  }

  /// The service is gone.
  [[noreturn]] void end() {
    const bool answers = answers_for_rules();
    if (!answers && (stage_ == Stage::succession || stage_ == Stage::left)) _exit(EXIT_SUCCESS);
    heartbeat_.reset();
    guard_.reset();
    if (answers) apply_fail_mode();
    // An examination ends with its channel, and takes away what it has made.
    if (doctor_ > 0) waitpid(doctor_, nullptr, 0);
    // Its file is a name for nothing now, and the service was not allowed to take it away.
    if (!control_path_.empty()) std::ignore = remove_stale_socket(control_path_);
    _exit(EXIT_SUCCESS);
  }

  void apply_fail_mode() {
    if (plan_.inputs.fail == FailMode::closed) {
      log_.error("the relaying process has died: what it would have relayed is refused now (--fail closed)",
                 {field("name", name()), field("remedy", "start it again, or: limpid rules remove --name " + name())});
      return;
    }
    const auto removed = remove_plan(plan_);
    if (removed) {
      log_.error("the relaying process has died: the rules are gone, and traffic passes as without us (--fail open)",
                 {field("name", name())});
    } else {
      log_.error("the relaying process has died, and its rules could not be taken away",
                 {field("error", removed.error().message()), field("remedy", "limpid rules remove --name " + name())});
    }
  }

  const pid_t service_;
  ServiceOptions options_;
  Plan plan_;
  const Logger& log_;
  Logger quiet_;  ///< what the service has said already
  std::string control_path_;
  SuccessorProgram program_;
  std::vector<std::string> variables_;
  bool succeeds_;
  DescriptorChannel orders_;
  std::shared_ptr<PlanCondition> condition_;
  Stage stage_ = Stage::waiting;
  std::optional<PlanGuard> guard_;
  std::optional<Heartbeat> heartbeat_;
  UniqueFd events_;               ///< epoll
  pid_t doctor_ = -1;             ///< an examination that is under way
  UniqueFd doctor_end_;           ///< its pidfd
  std::uint8_t examination_ = 0;  ///< its number
  pid_t successor_ = -1;
  UniqueFd rules_lock_;  ///< at the end, where kRulesLock was shared with others
};

}  // namespace

void keep_rules(RulesKeeper::Job& job, KeeperChannels channels, std::shared_ptr<PlanCondition> condition) {
  prctl(PR_SET_NAME, "limpid-rules", 0, 0, 0);
  // Whatever a terminal, a supervisor or its watchdog sends to all of the service's processes: this one ends by itself, when its work is done.
  sigset_t all;
  sigfillset(&all);
  if (pthread_sigmask(SIG_SETMASK, &all, nullptr) != 0 || !take_descriptors(channels, job.rules_lock.get()))
    _exit(EXIT_FAILURE);
  limit_bounding_set(kKept);
  // Of root: who has its rights by ambient capabilities would have nothing to pass on to nft any more.
  const bool limited =
      geteuid() == 0 ? limit_capabilities(kKept).has_value() : prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
  auto orders = DescriptorChannel::adopt(UniqueFd(kOrders));
  if (!limited || !orders) _exit(EXIT_FAILURE);
  KeeperProcess(job, channels.service, std::move(*orders), std::move(condition)).run();
}

}  // namespace limpid
