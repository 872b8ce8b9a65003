// RulesKeeper: the process that holds the right to change the kernel's rules, and the hand by which the service, which does not, asks it to. Forked by the service
// before its first thread, with options and plan in its memory. docs/privileges.md says what each process may do.
//
// Theory of operation. Two channels lead to the child: orders (keeper_protocol.h), answered one after the other, and the doctor's, on which an examination may
// take a minute. The child waits for orders and meanwhile keeps the plan in repair. When its channel ends before it was told to remove the plan, the service
// has died: then it does what the plan's fail mode declares, and ends. When the child dies, the service goes on with what it has.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/log.h"
#include "intercept/plan.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "net/descriptor_channel.h"
#include "service/keeper_protocol.h"
#include "service/plan_guard.h"
#include "service/service.h"
#include "service/successor.h"

namespace limpid {

class RulesKeeper {
 public:
  struct Job {
    const ServiceOptions& options;  ///< those at work; a reload is compared with them
    const Plan& plan;
    const Logger& log;
    std::string control_path;            ///< the socket's file, which the service may not remove any more; empty: none
    UniqueFd rules_lock;                 ///< lock_rules(): held by the child alone
    SuccessorProgram program;            ///< for an upgrade
    std::vector<std::string> variables;  ///< "NAME=value", for its environment
    bool succeeds = false;               ///< a predecessor's plan is at work
  };

  /// Forks: must be called before the first thread starts.
  [[nodiscard]] static Result<std::unique_ptr<RulesKeeper>> start(Job job);
  RulesKeeper(const RulesKeeper&) = delete;
  RulesKeeper& operator=(const RulesKeeper&) = delete;
  RulesKeeper(RulesKeeper&&) = delete;
  RulesKeeper& operator=(RulesKeeper&&) = delete;
  /// Has the plan removed if nobody did, ends the child and waits for it.
  ~RulesKeeper();

  /// Hangs up when the child has ended; nothing else ever comes unasked.
  [[nodiscard]] int descriptor() const noexcept { return orders_.descriptor(); }
  [[nodiscard]] bool has_ended() const noexcept { return ended_; }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  /// The child has ended: says so, once, and what that means.
  void note_end();

  [[nodiscard]] Status install();
  /// `plan`: what a reload has made of the configuration. The child reads that itself, and refuses if it is another one by now. True if the
  /// kernel's rules were changed. Error::code is ETIMEDOUT where that may happen later.
  [[nodiscard]] Result<bool> reload(const Plan& plan);
  [[nodiscard]] Status begin_drain();
  [[nodiscard]] Status remove();
  /// Of a successor: puts our plan in the place of the predecessor's, which has the same numbers. Where that fails, flows go on with what is there.
  void renew();

  // For an upgrade (service/handover.h).
  /// Starts the program anew, with `channel` to its predecessor and our standard descriptors. It is the child's child. Until the next of these calls, nobody watches the rules.
  [[nodiscard]] Result<pid_t> start_successor(int channel);
  /// It does not take over: it is given so long to end by itself, and then killed. How it ended, in words.
  [[nodiscard]] std::string end_successor(std::chrono::milliseconds patience);
  /// It has taken over: whatever becomes of us, the rules stay as they are.
  void leave();
  /// How the plan fares; nullptr where changes by others are not noticed.
  [[nodiscard]] std::shared_ptr<const PlanCondition> condition() const noexcept {
    return watched_ ? condition_ : nullptr;
  }
  /// To be given to one who asks for the doctor; once.
  [[nodiscard]] UniqueFd take_doctor_channel() noexcept { return std::move(doctor_); }

 private:
  RulesKeeper(pid_t pid, DescriptorChannel orders, UniqueFd doctor, std::shared_ptr<PlanCondition> condition,
              const Logger& log, bool has_heart)
      : pid_(pid),
        orders_(std::move(orders)),
        doctor_(std::move(doctor)),
        condition_(std::move(condition)),
        log_(log),
        has_heart_(has_heart) {}
  void start_pulse();
  /// What it answers, or that nobody does.
  /// Error::code is ETIMEDOUT where it may be carried out later.
  [[nodiscard]] Result<KeeperReply> ask(KeeperRequest request, std::string_view operation,
                                        std::span<const int> descriptors = {});

  pid_t pid_;
  DescriptorChannel orders_;
  UniqueFd doctor_;
  std::shared_ptr<PlanCondition> condition_;  ///< in memory that both processes see
  const Logger& log_;
  std::jthread pulse_;          ///< for a plan with a heart: the kernel shall notice a process that is stopped, too
  std::uint16_t sequence_ = 0;  ///< of the last order
  const bool has_heart_;
  bool watched_ = false;
  bool installed_ = false;
  bool ended_ = false;
};

/// Has the doctor run by the process behind a channel of take_doctor_channel(); waits until it has made its report or cannot, or `stop` is readable.
[[nodiscard]] Result<std::string> ask_for_doctor(int channel, DoctorRequest request, int stop);

}  // namespace limpid
