// The examination: collects facts, probes, tries, and runs every check that was asked for.
#pragma once

#include <optional>
#include <string>

#include "doctor/finding.h"
#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/interception.h"

namespace limpid::doctor {

struct Examination {
  std::string name;                            ///< which installation; empty: all of them
  std::optional<InterceptionOptions> planned;  ///< judge what is not installed yet
  std::string only;                            ///< a group or an id; empty: everything
  std::optional<std::string> via;              ///< probe in front of this interface
  std::optional<SocketAddress> target;         ///< for the return path: a real target …
  std::optional<IpAddress> as;                 ///< … dialled as this client
  bool probes = true;                          ///< false: neither probes nor tries the kernel, only reads
};

/// Whether `text` is a group or an id that a finding may have.
[[nodiscard]] bool is_known(std::string_view text);

/// Single-threaded callers only: it forks. The findings are ordered by group.
[[nodiscard]] Result<Findings> examine(const Examination& examination);

}  // namespace limpid::doctor
