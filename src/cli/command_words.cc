// Takes and runs other people's programs. See command_words.h.
#include "cli/command_words.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>

#include "cli/verb.h"

namespace limpid {
namespace {

constexpr int kExitNotFound = 127;
constexpr int kExitNotExecutable = 126;

}  // namespace

void take_command(CLI::App& verb, const std::string& name, const std::string& help) {
  // An option would read "[::1]" as a list, so this one takes nothing and is there for the help, and for CLI11 to accept
  // "--".
  verb.add_option_function<std::string>(
          name, [](const std::string&) {}, help)
      ->check([](const std::string&) { return std::string("taken as it stands"); });
  verb.validate_positionals();
  verb.prefix_command();
}

Result<std::vector<std::string>> command_of(const CLI::App& verb) {
  std::vector<std::string> command = verb.remaining();
  if (!command.empty() && command.front() == "--") {
    command.erase(command.begin());
  } else if (!command.empty() && command.front().starts_with('-')) {
    const std::string parents = verb.get_parent()->get_parent() == nullptr ? "" : verb.get_parent()->get_name() + ' ';
    return usage_error("", command.front(), "no such option", "see limpid " + parents + verb.get_name() + " --help");
  }
  return command;
}

int become(const std::vector<std::string>& command) {
  std::vector<char*> argv;
  argv.reserve(command.size() + 1);
  for (const auto& word : command) {
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): execvp(3) leaves them as they are
    argv.push_back(const_cast<char*>(word.c_str()));
  }
  argv.push_back(nullptr);
  ::execvp(argv.front(), argv.data());
  const int code = errno;
  report(system_error(code, "run", command.front()).error());
  return code == ENOENT ? kExitNotFound : kExitNotExecutable;
}

}  // namespace limpid
