// From a configuration to what `limpid run` does: its settings are read by the very flags that they are, so that both mean the same, and errors name their place in the file.
#pragma once

#include <string>
#include <vector>

#include "config/configuration.h"
#include "limpid/error.h"
#include "service/service.h"

namespace CLI {
class App;
}

namespace limpid {

/// Where it is looked for without --config.
inline constexpr const char* kDefaultConfiguration = "/etc/limpid/limpid.toml";

struct LoadedService {
  Configuration configuration;
  ServiceOptions options;
  std::vector<Error> warnings;  ///< rules that can never match are errors; this is what is only suspicious
  std::vector<Error> notes;     ///< bypass rules that are obeyed by relaying
};

/// The file that is meant: a directory stands for the limpid.toml in it. One without is an error that names what can be said instead.
[[nodiscard]] Result<std::string> configuration_at(const std::string& typed);

/// Reads and checks everything. `verb`: a parsed `limpid run`, whose flags win, and which outlives the options, as they read the file anew with it; an empty App where
/// nothing was typed.
[[nodiscard]] std::expected<LoadedService, std::vector<Error>> load_service(const std::string& file,
                                                                            const CLI::App& verb);

/// Prints each; the exit status of the first.
int report_all(const std::vector<Error>& errors);

}  // namespace limpid
