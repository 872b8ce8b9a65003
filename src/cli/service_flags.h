// The flags of every verb that stays and watches: what it says, and what it does when others change its rules.
#pragma once

#include <string>
#include <string_view>

#include "base/log.h"
#include "limpid/error.h"
#include "service/plan_guard.h"

namespace CLI {
class App;
}

namespace limpid {

/// As typed.
struct LogFlags {
  std::string format = "logfmt";
  bool quiet = false;
  bool verbose = false;
};

/// `quiet_means`: what else is left out with it, in words; may be empty.
void add_log_flags(CLI::App& verb, LogFlags& flags, std::string_view quiet_means);
[[nodiscard]] Result<Logger::Options> parse_log_flags(const LogFlags& flags);

void add_repair_flag(CLI::App& verb, std::string& typed);
[[nodiscard]] Result<Repair> parse_repair(std::string_view typed);

}  // namespace limpid
