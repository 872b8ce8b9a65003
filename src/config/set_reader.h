// Named sets: lists of networks or of names, in the configuration itself or in a file beside it with one on each line.
#pragma once

#include <toml++/toml.h>

#include <filesystem>
#include <string>
#include <vector>

#include "limpid/error.h"
#include "policy/rule.h"

namespace limpid {

/// Adds what `table`, the section [sets] of `file`, defines. What is wrong goes to `errors`.
///
///   lan = ["192.168.0.0/16", "fd00::/8"]
///   ads = ["suffix: ads.example", "tracker.example.net"]
///   spam = { networks = "spam.txt" }        a path beside the configuration, or from the root
///   many = { domains = "many.txt" }
void read_sets(const std::filesystem::path& file, const toml::table& table, NamedSets& sets,
               std::vector<Error>& errors);

}  // namespace limpid
