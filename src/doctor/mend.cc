// See mend.h. The commands were made by our own checks; what stands in them of others is an argument, never a program.
#include "doctor/mend.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "base/process.h"
#include "net/sysctl.h"

namespace limpid::doctor {
namespace {

Status write_settings(const Command& command) {
  for (std::size_t i = 2; i < command.size(); ++i) {
    const auto equals = command[i].find('=');
    const std::string key = command[i].substr(0, equals);
    if (auto written = write_sysctl(key, std::string_view(command[i]).substr(equals + 1)); !written) return written;
  }
  return {};
}

std::string_view package_of(std::string_view program) {
  if (program == "nft") return "nftables";
  return program == "ip" ? "iproute2" : "iptables";
}

}  // namespace

std::vector<Command> safe_commands(const Findings& findings) {
  std::vector<Command> commands;
  for (const Finding& finding : findings) {
    if (!finding.remedy.safe || finding.severity < Severity::warning) continue;
    for (const Command& command : finding.remedy.commands) {
      if (std::ranges::find(commands, command) == commands.end()) commands.push_back(command);
    }
  }
  return commands;
}

Status run_command(const Command& command) {
  if (command.front() == "sysctl") return write_settings(command);
  const auto program = find_system_program(command.front(), package_of(command.front()));
  if (!program) return std::unexpected(program.error());
  Command argv = command;
  argv.front() = *program;
  const auto output = run_process(argv, {});
  if (!output) return std::unexpected(output.error());
  if (output->exit_status == 0) return {};
  const std::string complaint = output->standard_error.substr(0, output->standard_error.find('\n'));
  // Whoever keeps the rules was faster: what was to be added is there.
  if (complaint.find("File exists") != std::string::npos) return {};
  if (complaint.find("not permitted") != std::string::npos)
    return unsupported("run", command.front(), complaint, "run as root");
  return limpid::failure("run", command.front(), complaint);
}

}  // namespace limpid::doctor
