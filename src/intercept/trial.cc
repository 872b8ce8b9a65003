// The namespace is made by a forked child, because leaving one needs privileges that entering a user namespace may not give back.
#include "intercept/trial.h"

#include "base/forked.h"
#include "net/namespace.h"

namespace limpid {

Result<std::string> try_in_new_namespace(const std::function<Result<std::string>(bool)>& work) {
  auto outcome = run_forked([&work]() -> Result<std::string> {
    if (enter_new_network_namespace()) return work(false);
    if (auto entered = become_root_in_user_namespace(); !entered) {
      entered.error().remedy = "needs CAP_SYS_ADMIN; in a unit, the drop-in iptables.conf allows it";
      return std::unexpected(entered.error());
    }
    return work(true);
  });
  if (outcome) return outcome;
  return failure("try it in a namespace of its own", "", outcome.error().message());
}

}  // namespace limpid
