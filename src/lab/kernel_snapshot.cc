// Asks nft and ip what the kernel holds: independent witnesses, who know nothing of Limpid. Reads only.
#include "lab/kernel_snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <sstream>
#include <utility>

#include "base/plural.h"
#include "base/process.h"

namespace limpid {
namespace {

Result<std::vector<std::string>> lines_of(const std::vector<std::string>& argv) {
  auto output = run_process(argv, "");
  if (!output) return std::unexpected(output.error());
  if (output->exit_status != 0) return failure("run", argv.front(), output->standard_error);
  std::vector<std::string> lines;
  std::istringstream text(output->standard_output);
  for (std::string line; std::getline(text, line);) {
    const std::size_t end = line.find_last_not_of(' ');
    lines.push_back(line.substr(0, end == std::string::npos ? 0 : end + 1));
  }
  return lines;
}

}  // namespace

std::string KernelSnapshot::summary() const {
  const auto tables = std::ranges::count_if(ruleset, [](const auto& line) { return line.starts_with("table "); });
  return fmt::format("{}, {} + {} rules, {} + {} routes", counted(static_cast<std::uint64_t>(tables), "table"),
                     ipv4_rules.size(), ipv6_rules.size(), ipv4_routes.size(), ipv6_routes.size());
}

Result<KernelSnapshot> take_kernel_snapshot() {
  const auto nft = find_system_program("nft", "nftables");
  if (!nft) return std::unexpected(nft.error());
  const auto ip = find_system_program("ip", "iproute2");
  if (!ip) return std::unexpected(ip.error());

  KernelSnapshot snapshot;
  const std::array<std::pair<std::vector<std::string>*, std::vector<std::string>>, 5> questions{{
      {&snapshot.ruleset, {*nft, "list", "ruleset"}},
      {&snapshot.ipv4_rules, {*ip, "-4", "rule"}},
      {&snapshot.ipv6_rules, {*ip, "-6", "rule"}},
      {&snapshot.ipv4_routes, {*ip, "-4", "route", "show", "table", "all"}},
      {&snapshot.ipv6_routes, {*ip, "-6", "route", "show", "table", "all"}},
  }};
  for (const auto& [answer, argv] : questions) {
    auto lines = lines_of(argv);
    if (!lines) return std::unexpected(lines.error());
    *answer = *std::move(lines);
  }
  return snapshot;
}

std::vector<std::string> added_lines(const std::vector<std::string>& before, const std::vector<std::string>& now) {
  std::vector<std::string> added;
  for (const auto& line : now) {
    if (std::ranges::find(before, line) == before.end()) added.push_back(line);
  }
  return added;
}

}  // namespace limpid
