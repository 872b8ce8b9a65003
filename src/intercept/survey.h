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
  std::vector<NftTableName> foreign_tables;  ///< named like tables of ours, made by somebody else
  std::vector<std::string>
      warnings;  ///< what disturbs every interception here, and how to mend it: br_netfilter, IPv6 off, …
  PortRange client_ports{.first = Port{32768}, .last = Port{60999}};  ///< net.ipv4.ip_local_port_range
  bool ipv6_available = true;
  bool forwarding_ipv4 = false;
  bool forwarding_ipv6 = false;
  bool accepts_local_sources = false;  ///< kAcceptLocal
};

/// Works without privileges too, except that installations cannot be seen then: a warning says so.
[[nodiscard]] Result<Survey> survey_kernel();

/// What disturbs this scope here: forwarding that is off (unless the plan switches it on), interfaces that do not
/// exist. Pure.
[[nodiscard]] std::vector<std::string> scope_warnings(const Survey& survey, const Scope& scope, bool enable_forwarding);

/// The numbers for a new installation: those given (checked against the survey: a busy table or mark is an error that
/// names its user), those of a left-over of the same name, or free ones. Pure.
struct Numbers {
  MarkField mark;
  TableId table;
  RulePriority priority;
};
[[nodiscard]] Result<Numbers> choose_numbers(const Survey& survey, const InterceptionOptions& options);

/// What a fail-closed scope rejects beside what was meant, in words. Pure.
[[nodiscard]] std::vector<std::string> fail_closed_warnings(const InterceptionOptions& options);

/// Rules of others that come before ours and could route our packets elsewhere, in words. Pure.
[[nodiscard]] std::vector<std::string> precedence_warnings(const Survey& survey, const Numbers& numbers);
/// The same about the rules that there are now.
[[nodiscard]] Result<std::vector<std::string>> find_precedence_warnings(const Numbers& numbers);

/// Everything for make_plan(): numbers chosen, names checked, a family left out that the host lacks or the scope cannot
/// match, forwarding switched on for the families in scope where `enable_forwarding` says so and it is off. Pure.
/// options.listener must be set, and options.backends begins with the backend that was chosen (choose_backend()).
[[nodiscard]] Result<PlanInputs> prepare_inputs(const Survey& survey, const InterceptionOptions& options, Keeper keeper,
                                                bool enable_forwarding);

}  // namespace limpid
