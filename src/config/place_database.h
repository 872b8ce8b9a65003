// Networks by country or autonomous system, read out of a MaxMind DB file (GeoLite2, DB-IP, …) once, when a configuration is: what rules hold is sets, not the file.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "limpid/error.h"
#include "policy/rule.h"

namespace limpid {

/// By "DE", "64496".
using PlaceNetworks = std::map<std::string, std::shared_ptr<const RangeSet>>;

/// All of them. Takes a second for a large file, and some hundred MB for that time.
[[nodiscard]] Result<PlaceNetworks> read_place_database(const std::filesystem::path& file, PlaceKind kind);

}  // namespace limpid
