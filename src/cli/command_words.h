// A program and its arguments as words of a command line of ours: how verbs take them, and how they run them.
#pragma once

#include <string>
#include <vector>

#include "limpid/error.h"

namespace CLI {
class App;
}

namespace limpid {

/// Lets the verb take a program and its arguments as they stand: everything behind "--", or from the first word on that
/// none of its options and positionals takes. For the help it is the positional `name`.
void take_command(CLI::App& verb, const std::string& name, const std::string& help);

/// After parsing: the words of the command; may be empty. A word that looks like an option of ours and is none is an error.
[[nodiscard]] Result<std::vector<std::string>> command_of(const CLI::App& verb);

/// Becomes the program (execvp). Returns only if that failed: reports why, and returns what shells do: 127 where it was not found,
/// 126 where it cannot be run.
[[nodiscard]] int become(const std::vector<std::string>& command);

}  // namespace limpid
