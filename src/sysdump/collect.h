// What goes into a dump: one part for each file of the archive, with its text or the reason why there is none. Asks programs, files of /proc and the running
// instance; changes nothing. Called by cli.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace limpid {

struct SysdumpPart {
  std::string path;    ///< in the archive
  std::string source;  ///< where it is from: a command, a file, a question to the instance
  std::string text{};
  std::string missing{};  ///< why it could not be had; empty: it could
};

struct SysdumpOptions {
  std::string name;                                ///< of the instance; valid
  std::string control_path;                        ///< its socket
  std::string config_file;                         ///< asked where no instance says which one it has
  std::string program;                             ///< ours, by its absolute path: it is asked for plan and findings
  std::string version;                             ///< of program and build
  std::string log_file;                            ///< whose end is taken; empty: none
  std::function<void(std::string_view)> progress;  ///< hears what comes next; may be empty
};

/// In the order of their names. `names` gets what looks like no name and is one, for Pseudonyms::learn().
[[nodiscard]] std::vector<SysdumpPart> collect_sysdump(const SysdumpOptions& options, std::vector<std::string>& names);

/// What is there, what is not and why, and what was replaced.
[[nodiscard]] std::string make_manifest(const std::vector<SysdumpPart>& parts, std::string_view version, bool redacted);

}  // namespace limpid
