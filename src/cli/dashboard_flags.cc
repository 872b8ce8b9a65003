// Where the dashboard listens, and who may do more there than look.
#include "cli/dashboard_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <utility>

#include "dashboard/admission.h"

namespace limpid {

void add_dashboard_flags(CLI::App& verb, DashboardFlags& flags, const std::string& heading) {
  verb.add_option("--dashboard", flags.address,
                  "Show what limpid top shows to browsers, here: 127.0.0.1:9080; beyond loopback with a token only")
      ->type_name("ADDRESS:PORT")
      ->group(heading);
  verb.add_option("--dashboard-token-file", flags.token_file,
                  "Who knows what is in this file (0600) may end flows there, drain, and set the log level")
      ->type_name("FILE")
      ->group(heading);
  verb.add_option("--dashboard-host", flags.hosts,
                  "A name by which browsers may call it besides its address and localhost; repeatable")
      ->type_name("NAME")
      ->group(heading);
}

Result<std::optional<DashboardSettings>> parse_dashboard_flags(const DashboardFlags& flags) {
  if (flags.address.empty()) {
    if (flags.token_file.empty() && flags.hosts.empty()) return std::nullopt;
    return usage_error(flags.token_file.empty() ? "--dashboard-host" : "--dashboard-token-file", "",
                       "there is no dashboard", "add --dashboard 127.0.0.1:9080, or leave it out");
  }
  const auto address = SocketAddress::parse(flags.address);
  if (!address) return usage_error("--dashboard", flags.address, "not an address and a port", "write 127.0.0.1:9080");
  DashboardSettings settings{.address = *address, .token_file = flags.token_file};
  if (!flags.token_file.empty() && !flags.token_file.starts_with('/'))
    return usage_error("--dashboard-token-file", flags.token_file, "not an absolute path",
                       "write /etc/limpid/dashboard-token");
  if (flags.token_file.empty() && !flags.hosts.empty())
    return usage_error("--dashboard-host", flags.hosts.front(), "whoever reaches this name could read every flow",
                       "add --dashboard-token-file FILE");
  if (flags.token_file.empty() && !address->address.is_loopback()) {
    return usage_error("--dashboard", flags.address, "whoever reaches this address could read every flow",
                       fmt::format("write 127.0.0.1:{}, or add --dashboard-token-file FILE", address->port.value));
  }
  for (const std::string& name : flags.hosts) {
    const auto host = host_in(name);
    if (!host || name.find(':') != std::string::npos)
      return usage_error("--dashboard-host", name, "not a name of a host", "write router.example.org, without a port");
    settings.hosts.push_back(*host);
  }
  return settings;
}

}  // namespace limpid
