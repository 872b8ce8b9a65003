// What the caller may do: capabilities, and user namespaces, which stand in for them.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/capability.h>

#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "base/forked.h"
#include "doctor/checks.h"
#include "net/namespace.h"

namespace limpid::doctor {
namespace {

Findings check_capabilities() {
  static constexpr std::array<std::pair<int, std::string_view>, 4> kNeeded = {{
      {CAP_NET_ADMIN, "CAP_NET_ADMIN (rules, routes, marks, IP_TRANSPARENT)"},
      {CAP_NET_RAW, "CAP_NET_RAW (answers to datagrams in others' names)"},
      {CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE (ports below 1024)"},
      {CAP_SYS_ADMIN, "CAP_SYS_ADMIN (network namespaces, for probes)"},
  }};
  std::vector<std::string_view> missing;
  for (const auto& [capability, description] : kNeeded) {
    if (!has_capability(capability)) missing.push_back(description);
  }
  if (missing.empty()) {
    return {ok(Group::privileges, "capabilities", "all that interception and this examination need are there")};
  }
  Remedy remedy;
  remedy.paste = {"sudo limpid doctor"};
  return {warning(Group::privileges, "capabilities", fmt::format("missing: {}", fmt::join(missing, ", ")), {},
                  std::move(remedy))};
}

Findings check_user_namespaces() {
  const auto made = run_forked([]() -> Result<std::string> {
    if (auto rooted = become_root_in_user_namespace(); !rooted) return std::unexpected(rooted.error());
    return std::string();
  });
  if (made)
    return {ok(Group::privileges, "user-namespaces", "can be made: the lab and these trials work without root")};
  return {warning(Group::privileges, "user-namespaces", made.error().message(), {},
                  advise("only the lab and trials without root need them"))};
}

}  // namespace

Findings try_privileges() {
  Findings findings = check_capabilities();
  append(findings, check_user_namespaces());
  return findings;
}

}  // namespace limpid::doctor
