// Holders and environment variables of a lab: how programs inside reach its other hosts.
#include "lab/environment.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <csignal>

#include "net/namespace.h"

namespace limpid {
namespace {

[[noreturn]] void hold(const std::string& host, pid_t parent) noexcept {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  ::prctl(PR_SET_NAME, ("lab-" + host).c_str());
  // Out of the terminal's reach, and holding nobody's pipe open.
  ::setsid();
  (void)::close_range(0, ~0U, 0);
  for (;;) ::pause();
}

std::string variable_of(const LabHost& host, std::string_view what) {
  std::string name = host.name;
  std::ranges::transform(name, name.begin(),
                         [](unsigned char character) { return static_cast<char>(std::toupper(character)); });
  return fmt::format("LIMPID_LAB_{}_{}", name, what);
}

}  // namespace

Result<std::vector<LabHolder>> start_holders(const Lab& lab) {
  const auto home = current_network_namespace();
  if (!home) return std::unexpected(home.error());
  const pid_t parent = ::getpid();
  std::vector<LabHolder> holders;
  for (const auto& host : lab.hosts()) {
    // Before the fork: the holder is born where it belongs, and nobody has to wait until it is there.
    if (auto entered = enter_network_namespace(host.network_namespace.get()); !entered) {
      return std::unexpected(entered.error());
    }
    const pid_t pid = ::fork();
    if (pid < 0) return system_error(errno, "fork", "");
    if (pid == 0) hold(host.name, parent);
    holders.push_back({.host = host.name, .pid = pid});
  }
  if (auto returned = enter_network_namespace(home->get()); !returned) return std::unexpected(returned.error());
  return holders;
}

std::vector<std::pair<std::string, std::string>> lab_environment(const Lab& lab,
                                                                 const std::vector<LabHolder>& holders) {
  std::vector<std::pair<std::string, std::string>> variables;
  std::string paths;
  for (const auto& holder : holders) {
    paths += fmt::format("{}{}=/proc/{}/ns/net", paths.empty() ? "" : ",", holder.host, holder.pid);
  }
  variables.emplace_back(kLabVariable, paths);
  for (const auto& host : lab.hosts()) {
    variables.emplace_back(variable_of(host, "IPV4"), host.ipv4.to_string());
    variables.emplace_back(variable_of(host, "IPV6"), host.ipv6.to_string());
  }
  return variables;
}

Result<std::string> find_lab_host(std::string_view variable, std::string_view host) {
  std::string names;
  while (!variable.empty()) {
    const std::string_view entry = variable.substr(0, variable.find(','));
    variable.remove_prefix(std::min(entry.size() + 1, variable.size()));
    const std::size_t equals = entry.find('=');
    if (equals == std::string_view::npos) continue;
    if (entry.substr(0, equals) == host) return std::string(entry.substr(equals + 1));
    names += names.empty() ? "" : ", ";
    names += entry.substr(0, equals);
  }
  return usage_error("lab", "host " + std::string(host), "there is none of that name here", "there are: " + names);
}

}  // namespace limpid
