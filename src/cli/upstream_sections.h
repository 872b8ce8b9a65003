// [upstreams.NAME]: a section of a configuration as a group of upstreams. Called by the loader of configurations.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "config/configuration.h"
#include "config/description.h"
#include "limpid/error.h"
#include "upstream/group.h"

namespace limpid {

/// Fills in `options` as far as it goes. All mistakes, each with its place. Looks names up and reads files.
[[nodiscard]] std::vector<Error> read_upstream_section(const GroupSettings& section, UpstreamGroupOptions& options);

/// What is wrong with groups beside each other; `sections` tell the places.
[[nodiscard]] std::vector<Error> check_upstream_sections(const std::vector<GroupSettings>& sections,
                                                         const std::vector<UpstreamGroupOptions>& groups);

/// Without secrets, but with their fingerprint.
[[nodiscard]] GroupDescription describe_section(const GroupSettings& section, const UpstreamGroupOptions& options);
/// A change of any user or password changes it.
[[nodiscard]] std::uint64_t fingerprint_of_secrets(const UpstreamGroupOptions& options);

}  // namespace limpid
