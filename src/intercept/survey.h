// What is in the kernel already, as a value, and the numbers that are free beside it. Reads only.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "intercept/plan.h"
#include "limpid/error.h"
#include "limpid/interception.h"
#include "net/netlink.h"

namespace limpid {

/// A table of ours that is in the kernel, whoever left it.
struct FoundInstallation {
  std::string name;
  Ownership ownership;
};

struct Survey {
  std::vector<RuleSpec> rules;    ///< both families
  std::vector<RouteSpec> routes;  ///< both families, every table
  std::vector<LinkInfo> links;
  std::vector<std::uint32_t> named_tables;  ///< /etc/iproute2/rt_tables and rt_tables.d
  std::vector<FoundInstallation> installations;
  std::vector<std::string> warnings;  ///< rp_filter, src_valid_mark, forwarding, …: what is wrong and how to mend it
  bool ipv6_available = true;
  bool forwarding_ipv4 = false;
  bool forwarding_ipv6 = false;
};

[[nodiscard]] Result<Survey> survey_kernel();

/// The numbers for a new installation: those given (checked against the survey: a busy table or mark is an error that names its
/// user), those of a left-over of the same name, or free ones. Pure.
struct Numbers {
  MarkField mark;
  TableId table;
  RulePriority priority;
};
[[nodiscard]] Result<Numbers> choose_numbers(const Survey& survey, const InterceptionOptions& options);

}  // namespace limpid
