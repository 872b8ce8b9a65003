// Prints the demonstration, a line at a time and at once, so that one can watch it. Decides nothing.
#include "lab/transcript.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace limpid {
namespace {

constexpr std::string_view kBold = "\x1b[1m";
constexpr std::string_view kDim = "\x1b[2m";
constexpr std::string_view kGreen = "\x1b[32m";
constexpr std::string_view kRed = "\x1b[31m";
constexpr std::string_view kPlain = "\x1b[0m";

bool wants_colours() {
  // NOLINTBEGIN(concurrency-mt-unsafe): nobody changes the environment of this process
  const char* refused = std::getenv("NO_COLOR");
  const char* terminal = std::getenv("TERM");
  // NOLINTEND(concurrency-mt-unsafe)
  return ::isatty(STDOUT_FILENO) == 1 && (refused == nullptr || *refused == '\0') && terminal != nullptr &&
         std::string_view(terminal) != "dumb";
}

}  // namespace

Transcript::Transcript() : colours_(wants_colours()) {}

void Transcript::heading(std::string_view text) {
  fmt::print("\n{}{}{}\n", colours_ ? kBold : "", text, colours_ ? kPlain : "");
  (void)std::fflush(stdout);
}

void Transcript::print(std::string_view mark, std::string_view colour, std::string_view label,
                       std::string_view text) const {
  std::string line = fmt::format("{:<21} {}", label, text);
  line.erase(line.find_last_not_of(' ') + 1);
  fmt::print("  {}{}{} {}\n", colours_ ? colour : "", mark, colours_ ? kPlain : "", line);
  (void)std::fflush(stdout);
}

void Transcript::line(std::string_view label, std::string_view text) {
  print(" ", "", label, text);
}

void Transcript::promise(bool kept, std::string_view label, std::string_view text) {
  print(kept ? "✓" : "✗", kept ? kGreen : kRed, label, text);
}

void Transcript::block(const std::vector<std::string>& lines) {
  for (const auto& line : lines) {
    std::string shown;
    for (const char character : line) shown += character == '\t' ? std::string(4, ' ') : std::string(1, character);
    fmt::print("{}      {}{}\n", colours_ ? kDim : "", shown, colours_ ? kPlain : "");
  }
  (void)std::fflush(stdout);
}

}  // namespace limpid
