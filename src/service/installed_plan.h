// A plan that is in the kernel for as long as this lives: undone on every way out, with a message if even that fails.
#pragma once

#include "base/log.h"
#include "intercept/install.h"
#include "intercept/plan.h"
#include "limpid/error.h"

namespace limpid {

/// Takes a plan over that has just been installed. `plan` and `log` must outlive it.
class InstalledPlan {
 public:
  InstalledPlan(const Plan& plan, const Logger& log) : plan_(plan), log_(log) {}
  InstalledPlan(const InstalledPlan&) = delete;
  InstalledPlan& operator=(const InstalledPlan&) = delete;
  InstalledPlan(InstalledPlan&&) = delete;
  InstalledPlan& operator=(InstalledPlan&&) = delete;
  ~InstalledPlan() {
    if (!done_) [[maybe_unused]]
      const auto status = remove();
  }

  [[nodiscard]] Status remove() {
    done_ = true;
    auto status = remove_plan(plan_);
    if (!status) log_.error("could not remove everything", {field("error", status.error().message())});
    return status;
  }
  /// It stays in the kernel.
  void leave() noexcept { done_ = true; }

 private:
  const Plan& plan_;
  const Logger& log_;
  bool done_ = false;
};

}  // namespace limpid
