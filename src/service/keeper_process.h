// The child's side of RulesKeeper: what it does with orders, while nobody orders anything, and when the one who gives them is gone.
#pragma once

#include <sys/types.h>

#include <memory>

#include "service/keeper.h"

namespace limpid {

/// The child's ends, and who has the others.
struct KeeperChannels {
  int orders = -1;
  int doctor = -1;
  pid_t service = -1;
};

/// In the child of a fork; never returns. Closes all other descriptors but standard error, on which it logs, and the lock of the job.
[[noreturn]] void keep_rules(RulesKeeper::Job& job, KeeperChannels channels, std::shared_ptr<PlanCondition> condition);

}  // namespace limpid
