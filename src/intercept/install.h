// Puts a plan into the kernel and takes it away again. The only writer of nftables, rules, routes and sysctls.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "intercept/plan.h"
#include "intercept/xtables.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// Held while one instance of a name exists in this network namespace (an abstract Unix socket, so it dies with its
/// owner and knows namespaces). The error names the pid that holds it.
[[nodiscard]] Result<UniqueFd> lock_instance(const std::string& name);
/// One that another process has handed over: who asks for its holder hears of this process from now on.
[[nodiscard]] Status renew_instance_lock(const UniqueFd& lock);
/// "pid 812", perhaps with its user: who holds that lock, now, in this network namespace. Empty: nobody.
[[nodiscard]] std::optional<std::string> holder_of_instance(const std::string& name);
/// Its process id. Empty also where it is in a process ID namespace that cannot be seen from here.
[[nodiscard]] std::optional<pid_t> process_of_instance(const std::string& name);
/// Held by the process that keeps the rules of an instance: after the death of the one that relays, it may still be taking them away. Waits for
/// that, up to ten seconds, so whoever has lock_instance() as well starts with a kernel that nobody else changes.
[[nodiscard]] Result<UniqueFd> lock_rules(const std::string& name);
/// Held while numbers are chosen and installed, so that two instances never choose the same. Waits up to ten seconds.
[[nodiscard]] Result<UniqueFd> lock_planning();
/// Held by whoever makes packets visible, `what` being "explain", "trace" or "doctor": one at a time has that table. Waits up to ten seconds.
[[nodiscard]] Result<UniqueFd> lock_tracing(std::string_view what);

/// Has the kernel check the whole plan without changing anything (nft --check; iptables in a throw-away network namespace), and names
/// the missing kernel feature if that is what is wrong.
[[nodiscard]] Status check_plan(const Plan& plan);

/// Gives the plan's rules to nft or iptables, in place of `present` (iptables only; nft finds out by itself). The last step captures, and the
/// heart has beaten before it.
[[nodiscard]] Status load_rules(const Plan& plan, const std::vector<XtablesPiece>& present);

/// Installs all of it or nothing: sysctls, routes and rules first, the nft table (or iptables' mangle) last, because only that captures.
/// Replaces a left-over of the same name without a moment in which neither is there, whichever backend left it.
[[nodiscard]] Status install_plan(const Plan& plan);

/// Stops capturing new connections; established ones go on.
[[nodiscard]] Status begin_drain(const Plan& plan);

/// Removes exactly what the plan put there: the table first. What is gone already is no error.
[[nodiscard]] Status remove_plan(const Plan& plan);

/// Removes a found installation by what its comment and our protocol tag say, without its plan; also rules and routes
/// with our tag that belong to no table of ours any more. Returns one line for each thing removed.
[[nodiscard]] Result<std::vector<std::string>> remove_installation(const std::string& name);

/// What differs between the plan and the kernel, a line each; empty: nothing. Loads the plan in a throw-away network
/// namespace and compares nft's own listings, so that a program's canonical form never matters.
[[nodiscard]] Result<std::vector<std::string>> diff_plan(const Plan& plan);

/// The listing of the tables or chains of a plan that is installed, to compare with later.
[[nodiscard]] Result<std::string> list_installed(const Plan& plan);
/// The same as diff_plan(), against such a listing: cheaper, and without a process of its own. Rules that others have put in the
/// places of ours are no drift: putting ours back would not remove them.
[[nodiscard]] Result<std::vector<std::string>> find_drift(const Plan& plan, std::string_view installed);

}  // namespace limpid
