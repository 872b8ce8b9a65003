// Each part is independent: what cannot be had says why, and the others are there.
#include "sysdump/collect.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/file_text.h"
#include "base/process.h"
#include "control/http_client.h"
#include "limpid/unique_fd.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

constexpr std::chrono::seconds kProgramPatience{30};
constexpr std::chrono::seconds kDoctorPatience{90};
constexpr std::chrono::seconds kInstancePatience{15};
constexpr std::size_t kMostLogBytes = 256UL * 1024;

struct Command {
  std::string path;
  std::string program;
  std::string package;
  std::vector<std::string> arguments;
};

std::vector<Command> kernel_commands(const std::string& name) {
  const std::string table = name == "limpid" ? "limpid" : "limpid_" + name;
  return {{"kernel/nft-ours.txt", "nft", "nftables", {"list", "table", "inet", table}},
          {"kernel/nft-tables.txt", "nft", "nftables", {"list", "tables"}},
          {"kernel/iptables.txt", "iptables-save", "iptables", {"-c"}},
          {"kernel/ip6tables.txt", "ip6tables-save", "iptables", {"-c"}},
          {"kernel/ip-rule.txt", "ip", "iproute2", {"-4", "rule"}},
          {"kernel/ip-rule-6.txt", "ip", "iproute2", {"-6", "rule"}},
          {"kernel/ip-route.txt", "ip", "iproute2", {"-4", "route", "show", "table", "all"}},
          {"kernel/ip-route-6.txt", "ip", "iproute2", {"-6", "route", "show", "table", "all"}},
          {"kernel/ip-link.txt", "ip", "iproute2", {"-d", "-s", "link"}},
          {"kernel/ip-address.txt", "ip", "iproute2", {"address"}},
          {"kernel/bpf-programs.txt", "bpftool", "bpftool", {"prog", "show"}},
          {"kernel/bpf-maps.txt", "bpftool", "bpftool", {"map", "show"}},
          {"kernel/bpf-net.txt", "bpftool", "bpftool", {"net", "show"}}};
}

// What decides whether intercepted packets arrive, and whether flows are fast.
constexpr std::array<std::string_view, 30> kSysctls{"net/ipv4/ip_forward",
                                                    "net/ipv6/conf/all/forwarding",
                                                    "net/ipv6/conf/all/disable_ipv6",
                                                    "net/ipv4/conf/all/rp_filter",
                                                    "net/ipv4/conf/default/rp_filter",
                                                    "net/ipv4/conf/lo/rp_filter",
                                                    "net/ipv4/conf/all/src_valid_mark",
                                                    "net/ipv4/conf/all/route_localnet",
                                                    "net/ipv4/conf/all/accept_local",
                                                    "net/ipv4/conf/all/send_redirects",
                                                    "net/ipv4/ip_nonlocal_bind",
                                                    "net/ipv6/ip_nonlocal_bind",
                                                    "net/ipv4/ip_early_demux",
                                                    "net/ipv4/tcp_early_demux",
                                                    "net/ipv4/udp_early_demux",
                                                    "net/ipv4/ip_local_port_range",
                                                    "net/ipv4/ip_unprivileged_port_start",
                                                    "net/ipv4/fwmark_reflect",
                                                    "net/ipv4/tcp_fwmark_accept",
                                                    "net/ipv4/tcp_syncookies",
                                                    "net/ipv4/tcp_rmem",
                                                    "net/ipv4/tcp_wmem",
                                                    "net/ipv4/udp_mem",
                                                    "net/core/somaxconn",
                                                    "net/core/rmem_max",
                                                    "net/core/netdev_max_backlog",
                                                    "net/bridge/bridge-nf-call-iptables",
                                                    "net/netfilter/nf_conntrack_max",
                                                    "net/netfilter/nf_conntrack_count",
                                                    "fs/nr_open"};

std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  std::ranges::replace(text, '\n', ' ');
  return text;
}

SysdumpPart run(std::string path, std::string source, const std::vector<std::string>& argv,
                std::chrono::seconds patience, bool may_fail) {
  SysdumpPart part{.path = std::move(path), .source = std::move(source)};
  std::vector<std::string> environment;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the process has one thread
  if (const char* const folder = std::getenv("LIMPID_RUN_DIRECTORY"); folder != nullptr)
    environment.push_back(std::string("LIMPID_RUN_DIRECTORY=") + folder);
  auto output = run_process(argv, {}, patience, environment);
  if (!output) {
    part.missing = one_line(output.error().message());
  } else if (output->exit_status != 0 && (!may_fail || output->standard_output.empty())) {
    part.missing = fmt::format("exit status {}: {}", output->exit_status, one_line(output->standard_error));
  } else {
    part.text = std::move(output->standard_output);
    if (!output->standard_error.empty()) part.text += "--- on standard error\n" + output->standard_error;
  }
  return part;
}

SysdumpPart run_command(const Command& command) {
  std::string source = command.program;
  for (const auto& argument : command.arguments) source += " " + argument;
  auto program = find_system_program(command.program, command.package);
  if (!program) return {.path = command.path, .source = source, .missing = one_line(program.error().message())};
  std::vector<std::string> argv{*program};
  argv.insert(argv.end(), command.arguments.begin(), command.arguments.end());
  return run(command.path, std::move(source), argv, kProgramPatience, /*may_fail=*/false);
}

SysdumpPart describe_system(const SysdumpOptions& options) {
  utsname system{};
  SysdumpPart part{.path = "system.txt", .source = "uname(2), /etc/os-release"};
  if (uname(&system) != 0) {
    part.missing = "uname(2) failed";
    return part;
  }
  part.text = fmt::format("{}\n\nkernel {} {} {} {}\n\n{}", options.version, system.sysname, system.release,
                          system.version, system.machine, read_text("/etc/os-release"));
  part.text += fmt::format("\nuid {}, capabilities and limits of this process:\n{}\n{}", geteuid(),
                           read_text("/proc/self/status"), read_text("/proc/self/limits"));
  return part;
}

SysdumpPart read_sysctls() {
  SysdumpPart part{.path = "kernel/sysctls.txt", .source = "/proc/sys"};
  for (const auto key : kSysctls) {
    const std::string file = fmt::format("/proc/sys/{}", key);
    std::string value = one_line(read_text(file));
    if (value.empty()) value = access(file.c_str(), F_OK) == 0 ? "(cannot be read)" : "(is not there)";
    part.text += fmt::format("{} = {}\n", key, value);
  }
  return part;
}

/// The end of a regular file that is no link.
SysdumpPart read_log(const std::string& file) {
  SysdumpPart part{.path = "log/file.txt", .source = file.empty() ? "--log" : file};
  if (file.empty()) {
    part.missing = "no file was named (--log FILE)";
    return part;
  }
  const UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status{};
  if (!fd.valid() || fstat(fd.get(), &status) != 0) {
    const int code = errno;
    part.missing = code == ELOOP ? "it is a link" : one_line(system_error(code, "open", file).error().message());
    return part;
  }
  if (!S_ISREG(status.st_mode)) {
    part.missing = "it is no file";
    return part;
  }
  const auto start = std::max<off_t>(0, status.st_size - static_cast<off_t>(kMostLogBytes));
  part.text.resize(static_cast<std::size_t>(status.st_size - start));
  const auto count = pread(fd.get(), part.text.data(), part.text.size(), start);
  part.text.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  // It begins with a whole line.
  if (start > 0) part.text.erase(0, part.text.find('\n') + 1);
  return part;
}

constexpr std::array<std::pair<std::string_view, std::string_view>, 8> kQuestions{
    {{"instance/status.json", "/v1/status"},
     {"instance/counters.json", "/v1/counters"},
     {"instance/rules.json", "/v1/rules"},
     {"instance/upstreams.json", "/v1/upstreams"},
     {"instance/configuration.json", "/v1/config"},
     {"instance/flows.json", "/v1/flows?limit=1000"},
     {"instance/largest-flows.json", "/v1/flows?limit=100&sort=bytes"},
     {"instance/metrics.txt", "/metrics"}}};

SysdumpPart ask(const SysdumpOptions& options, std::string_view path, std::string_view target) {
  SysdumpPart part{.path = std::string(path), .source = fmt::format("GET {}", target)};
  auto answer = ask_control(options.control_path, "GET", target, {}, kInstancePatience);
  if (!answer) {
    part.missing = one_line(answer.error().message());
    return part;
  }
  constexpr unsigned kOk = 200;
  if (answer->status != kOk) {
    part.missing = one_line(fmt::format("status {}: {}", answer->status, answer->body));
    return part;
  }
  const auto json = ordered_json::parse(answer->body, nullptr, /*allow_exceptions=*/false);
  part.text = json.is_discarded() ? std::move(answer->body)
                                  : json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  return part;
}

/// Names in the first bytes of flows need no dot.
void collect_names(const std::string& flows, std::vector<std::string>& names) {
  const auto json = ordered_json::parse(flows, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("flows") || !json["flows"].is_array()) return;
  for (const auto& flow : json["flows"]) {
    if (flow.is_object() && flow.contains("name") && flow["name"].is_string()) names.push_back(flow["name"]);
  }
}

/// The file that the instance was started with; nothing where it has none, or where there is no instance.
std::optional<std::string> running_file(const std::string& status) {
  const auto json = ordered_json::parse(status, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("configuration") || !json["configuration"].is_object()) return std::nullopt;
  const auto& configuration = json["configuration"];
  if (!configuration.contains("file") || !configuration["file"].is_string()) return std::string();
  return configuration["file"].get<std::string>();
}

}  // namespace

std::vector<SysdumpPart> collect_sysdump(const SysdumpOptions& options, std::vector<std::string>& names) {
  std::vector<SysdumpPart> parts;
  const auto next = [&](std::string_view what) {
    if (options.progress) options.progress(what);
  };
  utsname system{};
  if (uname(&system) == 0) names.emplace_back(system.nodename);

  next("the system");
  parts.push_back(describe_system(options));
  parts.push_back(read_sysctls());
  for (const Command& command : kernel_commands(options.name)) {
    next(command.path);
    parts.push_back(run_command(command));
  }
  std::optional<std::string> file;
  for (const auto& [path, target] : kQuestions) {
    next(path);
    parts.push_back(ask(options, path, target));
    const auto& text = parts.back().text;
    if (target == "/v1/status") file = running_file(text);
    if (target.starts_with("/v1/flows")) collect_names(text, names);
  }
  next("plan.txt");
  const std::string config = file.value_or(options.config_file);
  if (config.empty()) {
    parts.push_back({.path = "plan.txt",
                     .source = "limpid run --dry-run",
                     .missing = "the instance has no configuration; kernel/ has what it has installed"});
    parts.push_back({.path = "check.json", .source = "limpid check", .missing = "the instance has no configuration"});
  } else {
    parts.push_back(run("plan.txt", fmt::format("limpid run -c {} --dry-run", config),
                        {options.program, "run", "-c", config, "--name", options.name, "--dry-run"}, kProgramPatience,
                        /*may_fail=*/false));
    parts.push_back(run("check.json", fmt::format("limpid check --json {}", config),
                        {options.program, "check", "--json", config}, kProgramPatience, /*may_fail=*/true));
  }
  next("doctor.json");
  parts.push_back(run("doctor.json", "limpid doctor --json", {options.program, "doctor", "--json"}, kDoctorPatience,
                      /*may_fail=*/true));
  next("the log");
  parts.push_back(run_command({"log/journal.txt",
                               "journalctl",
                               "systemd",
                               {"--no-pager", "--quiet", "-n", "1000", "-o", "short-iso", "-u",
                                options.name == "limpid" ? "limpid.service" : "limpid@" + options.name + ".service"}}));
  parts.push_back(read_log(options.log_file));
  std::ranges::sort(parts, {}, &SysdumpPart::path);
  return parts;
}

}  // namespace limpid
