// Errors on their way out of the program: printed once, turned into an exit status.
#include "cli/verb.h"

#include <langinfo.h>

#include <clocale>
#include <cstdio>
#include <string>
#include <string_view>

#include "base/terminal_text.h"

namespace limpid {

int exit_status(const Error& error) noexcept {
  switch (error.kind) {
    case ErrorKind::failure: return kExitFailure;
    case ErrorKind::usage: return kExitUsage;
    case ErrorKind::unsupported: return kExitUnsupported;
  }
  return kExitFailure;
}

int report(const Error& error) {
  std::string line = error.message();
  // One line, whatever a library or another program put into it, and nothing in it that acts on a terminal.
  for (char& c : line) {
    if (c == '\n' || c == '\r' || c == '\t') c = ' ';
  }
  std::fprintf(stderr, "limpid: %s\n", for_terminal(line).c_str());
  return exit_status(error);
}

bool shows_unicode() {
  // NOLINTBEGIN(concurrency-mt-unsafe): the process has one thread yet
  (void)std::setlocale(LC_CTYPE, "");
  return std::string_view(::nl_langinfo(CODESET)) == "UTF-8";
  // NOLINTEND(concurrency-mt-unsafe)
}

}  // namespace limpid
