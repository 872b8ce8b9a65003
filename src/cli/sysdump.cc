// limpid sysdump: everything that somebody who helps would ask for, in one archive, without telling who your clients are.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/terminal_text.h"
#include "cli/config_flags.h"
#include "cli/control_flags.h"
#include "cli/verb.h"
#include "intercept/plan.h"
#include "limpid/version.h"
#include "sysdump/archive.h"
#include "sysdump/collect.h"
#include "sysdump/pseudonyms.h"
#include "sysdump/secrets.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

struct SysdumpFlags : ControlFlags {
  std::string output;
  std::string config = kDefaultConfiguration;
  std::string log;
  bool with_addresses = false;
};

std::string own_path() {
  std::array<char, 4096> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size());
  return length > 0 ? std::string(path.data(), static_cast<std::size_t>(length)) : "/proc/self/exe";
}

std::string describe_build() {
  return fmt::format("limpid {} ({}, eBPF {}, GeoIP {})", kVersion, __VERSION__, LIMPID_HAS_EBPF ? "yes" : "no",
                     LIMPID_HAS_GEOIP ? "yes" : "no");
}

/// What it unpacks to: its own name, unless that leads somewhere else.
std::string folder_for(const std::string& file) {
  const auto slash = file.rfind('/');
  const std::string name = file.substr(slash == std::string::npos ? 0 : slash + 1);
  const std::string folder = name.substr(0, name.find(".tar"));
  return folder.find_first_not_of('.') == std::string::npos ? "limpid-sysdump" : folder;
}

void print_report(const SysdumpFlags& flags, std::uint64_t size, const std::vector<SysdumpPart>& parts) {
  std::size_t missing = 0;
  ordered_json list = ordered_json::array();
  for (const auto& part : parts) {
    const bool there = part.missing.empty();
    missing += there ? 0 : 1;
    list.push_back({{"path", part.path},
                    {"source", part.source},
                    {"bytes", there ? ordered_json(part.text.size()) : ordered_json()},
                    {"missing", there ? ordered_json() : ordered_json(part.missing)}});
  }
  if (flags.json) {
    const ordered_json json = {{"schema", 1},
                               {"file", flags.output},
                               {"bytes", size},
                               {"addresses", flags.with_addresses ? "real" : "pseudonyms"},
                               {"parts", list}};
    fmt::print("{}\n", json.dump(2, ' ', false, ordered_json::error_handler_t::replace));
    return;
  }
  fmt::print("{}: {}, {} parts", for_terminal(flags.output), in_bytes(size), parts.size() - missing);
  if (missing > 0) fmt::print("; {} could not be had (MANIFEST says why)", missing);
  fmt::print("\n{}\n", flags.with_addresses ? "It has your clients' real addresses and names: mind whom you give it to."
                                            : "Addresses and names in it are pseudonyms; passwords are hidden.");
}

int sysdump(SysdumpFlags flags) {
  if (auto valid = check_instance_name(flags.name); !valid) return report(valid.error());
  if (flags.output.empty())
    flags.output = fmt::format("limpid-sysdump-{:%Y%m%dT%H%M%SZ}.tar.gz", fmt::gmtime(std::time(nullptr)));
  auto pseudonyms = Pseudonyms::make();
  if (!pseudonyms) return report(pseudonyms.error());
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  const auto progress = [terminal](std::string_view what) {
    if (terminal) fmt::print(stderr, "\r\033[Klimpid: collecting {} …", what);
  };
  std::vector<std::string> names;
  const std::string version = describe_build();
  auto parts = collect_sysdump({.name = flags.name,
                                .control_path = control_path(flags),
                                .config_file = flags.config,
                                .program = own_path(),
                                .version = version,
                                .log_file = flags.log,
                                .progress = progress},
                               names);
  if (terminal) fmt::print(stderr, "\r\033[K");
  for (const auto& name : names) pseudonyms->learn(name);
  for (auto& part : parts) {
    for (std::string* text : {&part.source, &part.text, &part.missing}) {
      *text = hide_secrets(*text);
      if (!flags.with_addresses) *text = pseudonyms->apply(*text);
    }
  }
  parts.insert(
      parts.begin(),
      {.path = "MANIFEST", .source = "this program", .text = make_manifest(parts, version, !flags.with_addresses)});
  const auto size = write_archive(flags.output, folder_for(flags.output), parts);
  if (!size) return report(size.error());
  print_report(flags, *size, parts);
  return kExitDone;
}

}  // namespace

void add_sysdump_verb(CLI::App& app, Action& action) {
  auto* verb = app.add_subcommand(
      "sysdump",
      "Collect what somebody who helps needs to know in one archive, without addresses, names and passwords");
  auto flags = std::make_shared<SysdumpFlags>();
  add_control_flags(*verb, *flags);
  verb->add_option("-o,--output", flags->output, "The archive; a name with the time in this folder if not given")
      ->type_name("FILE");
  verb->add_option("-c,--config", flags->config, "The configuration, where no instance runs that could say which")
      ->type_name("FILE")
      ->capture_default_str();
  verb->add_option("--log", flags->log, "Add the end of this file")->type_name("FILE");
  verb->add_flag("--with-addresses", flags->with_addresses, "Leave addresses and names as they are; never passwords");
  verb->callback([flags, &action] { action = [flags] { return sysdump(*flags); }; });
}

}  // namespace limpid
