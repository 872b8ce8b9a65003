// `limpid rules watch`: keeps the rules for a proxy of somebody else's in the kernel, and in repair, for as long as it runs.
#pragma once

#include "base/log.h"
#include "intercept/plan.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "service/plan_guard.h"

namespace limpid {

struct RulesWatchOptions {
  Repair repair = Repair::on;
  bool keep = false;  ///< leave the rules in the kernel at the end
  Logger::Options log;
};

/// Installs the plan, lets go of `planning_lock` (lock_planning()), and keeps the plan until SIGTERM, SIGINT or SIGHUP. SIGUSR1 logs the
/// counters. Must be called from a program's only thread: it blocks signals for all that follow.
[[nodiscard]] Status watch_rules(const Plan& plan, const RulesWatchOptions& options, UniqueFd planning_lock);

}  // namespace limpid
