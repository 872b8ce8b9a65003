// Which files the process that relays may touch: the list for Landlock.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/landlock.h"
#include "service/service.h"

namespace limpid {

/// `ca-file` of upstreams: read when the first flow goes there.
[[nodiscard]] inline std::vector<std::string> certificate_files(const ServiceOptions& options) {
  std::vector<std::string> files;
  for (const UpstreamGroupOptions& group : options.upstreams) {
    for (const auto& member : group.members) {
      if (!member.tls.ca_file.empty()) files.push_back(member.tls.ca_file);
    }
  }
  return files;
}

/// Nothing is written, but pins of eBPF programs where it looks after some. With a configuration, which may name any file at its next reload, it reads what file permissions
/// let it; without, what libraries look for.
[[nodiscard]] inline FileRules relay_files(const ServiceOptions& options, bool handles_programs) {
  FileRules rules{.fence_reading = !options.load && !handles_programs,  // libbpf opens "/" for a free number
                  // Time zones, locales, certificates, limits of the kernel, processes, CPUs.
                  .readable = {"/etc", "/usr", "/lib", "/lib64", "/var/lib/ca-certificates", "/nix/store", "/proc",
                               "/sys", "/dev/null", "/dev/urandom"}};
  // The folder, because a file that is replaced is another one.
  for (const std::string& file : certificate_files(options))
    rules.readable.push_back(std::filesystem::absolute(file).parent_path().string());
  if (handles_programs) rules.writable.emplace_back("/sys/fs/bpf");
  return rules;
}

}  // namespace limpid
