// Whether the proxy that rules are for is there: notices when its listener goes, comes back, or is none that packets can be handed to.
#pragma once

#include <string>

#include "base/log.h"
#include "intercept/plan.h"
#include "limpid/address.h"

namespace limpid {

/// One thread. Asks the kernel each time, which costs some ten microseconds on a host with few listeners.
class ListenerWatch {
 public:
  /// Both must outlive it. Says nothing before the first look().
  ListenerWatch(const Plan& plan, const Logger& log) : plan_(plan), log_(log) {}

  /// Logs what has changed since the last time; at the first time, only what is missing.
  void look();
  /// As of the last look(): for every transport in scope there is a listener of this family.
  [[nodiscard]] bool complete(Family family) const noexcept {
    return family == Family::ipv4 ? complete_ipv4_ : complete_ipv6_;
  }

 private:
  [[nodiscard]] std::string find_missing();

  const Plan& plan_;
  const Logger& log_;
  bool complete_ipv4_ = false;
  bool complete_ipv6_ = false;
  std::string missing_;  ///< in words: "TCP on 127.0.0.1, UDP on ::1"; empty: nothing
};

}  // namespace limpid
