// CPU affinity and RLIMIT_NOFILE. Called once, at the start.
#include "service/resources.h"

#include <sched.h>
#include <sys/resource.h>

namespace limpid {

unsigned usable_cpus() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (sched_getaffinity(0, sizeof cpus, &cpus) != 0) return 1;
  return static_cast<unsigned>(CPU_COUNT(&cpus));
}

/// Two descriptors a flow: the soft limit (1,024 in most shells) exists for select(2)'s sake, which is not used here.
void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace limpid
