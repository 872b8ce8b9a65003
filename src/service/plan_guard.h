// Keeps an installed plan in the kernel: notices when somebody else takes part of it away, and puts it back.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "intercept/plan.h"
#include "limpid/error.h"
#include "net/change_watch.h"
#include "net/legacy_tables.h"

namespace limpid {

enum class Repair : std::uint8_t {
  on,   ///< what is missing is put back
  off,  ///< what is missing is reported: something else is in charge of the rules
};

/// How the plan fares: written by the guard, read by anybody.
struct PlanCondition {
  std::atomic<std::uint64_t> drifts{0};   ///< how often others had changed it
  std::atomic<std::uint64_t> repairs{0};  ///< how often it was put back
  std::atomic<bool> disturbed{false};     ///< it differs now, as far as is known
  std::atomic<bool> gave_up{false};       ///< others undo it again and again
  std::atomic<bool> abandoned{false};     ///< the process that kept it has ended; written by the one that is left
  std::atomic<std::uint64_t> pulse{0};    ///< counted up by who relays, for the heart of an iptables
};

/// One thread. Waits nowhere itself: keep_until_signal() polls descriptors(), calls hear() when one is readable, and look() when
/// patience() is over.
class PlanGuard {
 public:
  /// `plan` and `log` must outlive it; the plan is installed.
  /// `condition`: where it writes how the plan fares, for readers that it does not know, such as another process.
  [[nodiscard]] static Result<PlanGuard> start(
      const Plan& plan, Repair mode, const Logger& log,
      std::shared_ptr<PlanCondition> condition = std::make_shared<PlanCondition>());

  [[nodiscard]] std::array<int, 2> descriptors() const noexcept { return watch_.descriptors(); }
  void hear();
  /// How long to wait before look(); negative: until something happens.
  [[nodiscard]] std::chrono::milliseconds patience() const;
  /// Compares, and repairs what differs. Gives up, with an error message, when others undo it again and again.
  void look();
  /// The plan has become another one, which is installed, with the same tables, chains and numbers.
  [[nodiscard]] Status follow_plan();

  [[nodiscard]] std::shared_ptr<const PlanCondition> condition() const noexcept { return condition_; }

 private:
  using Clock = std::chrono::steady_clock;
  PlanGuard(const Plan& plan, Repair mode, const Logger& log, ChangeWatch watch, std::optional<LegacyTables> legacy,
            std::string installed, std::shared_ptr<PlanCondition> condition);
  [[nodiscard]] bool take_news();
  [[nodiscard]] bool by_ebpf() const noexcept;
  void follow_interfaces();
  void warn_of_rules_before_ours();
  void repair(Clock::time_point heard);
  [[nodiscard]] bool is_a_fight(Clock::time_point heard);

  const Plan* plan_;
  const Logger* log_;
  Repair mode_;
  ChangeWatch watch_;
  std::optional<LegacyTables> legacy_;  ///< of iptables-legacy nothing is heard: looked at now and then
  Clock::time_point next_look_;
  std::string installed_;  ///< the listing of it, as it should be
  std::optional<Clock::time_point> first_heard_;
  Clock::time_point last_heard_;
  std::optional<Clock::time_point> last_repair_;
  unsigned strikes_ = 0;   ///< repairs in a row that were undone at once
  bool reported_ = false;  ///< what differs now has been reported (Repair::off)
  bool gave_up_ = false;
  std::vector<std::string> warned_of_;  ///< rules of others before ours
  std::shared_ptr<PlanCondition> condition_;
};

/// keep_until_signal(): `also` is readable.
inline constexpr int kSomebodyAsks = -1;

/// Waits for the next signal (`signal_fd`: a signalfd, or -1), for at most `patience` (negative: for ever), and keeps the plan meanwhile. Without a guard, only waits.
/// Returns the signal, or 0 when patience is over, or kSomebodyAsks.
[[nodiscard]] int keep_until_signal(int signal_fd, PlanGuard* guard,
                                    std::chrono::milliseconds patience = std::chrono::milliseconds{-1}, int also = -1);

}  // namespace limpid
