// Where the programs of cut-through are attached: on every interface on which packets of IP arrive, before the programs of everybody else.
#pragma once

#include <string>
#include <vector>

#include "cutthrough/cut_programs.h"

namespace limpid {

/// Attaches to interfaces that have come, replaces programs of earlier processes, detaches where they no longer belong, forgets interfaces that have
/// gone. Returns the names of those that are new.
[[nodiscard]] Result<std::vector<std::string>> attach_to_links(const CutPrograms& programs,
                                                               const CutThroughOptions& options);
/// What an instance left attached; empty: nothing.
[[nodiscard]] Result<std::optional<FoundCutMaps>> find_attached(const std::string& name);
/// Takes all its programs away. True if there were any.
[[nodiscard]] Result<bool> detach_everywhere(const std::string& name);

}  // namespace limpid
