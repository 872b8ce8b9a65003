// What CLI11 finds wrong on a command line, in the words of our other errors.
#pragma once

#include <span>

#include "limpid/error.h"

namespace CLI {
class App;
class ParseError;
}  // namespace CLI

namespace limpid {

/// `app` as parsing left it; `words` are the command line without the program's name.
[[nodiscard]] Error explain(const CLI::ParseError& error, const CLI::App& app, std::span<char* const> words);

}  // namespace limpid
