// One TOML file, parsed; and errors that name a place in it. The library's exceptions end here.
#pragma once

#include <toml++/toml.h>

#include <expected>
#include <filesystem>
#include <string>
#include <string_view>

#include "config/configuration.h"
#include "limpid/error.h"

namespace limpid {

/// Bigger files are refused: nobody writes them, and long lists have files of their own.
inline constexpr std::size_t kLargestTomlBytes = std::size_t{4} << 20U;

[[nodiscard]] std::expected<toml::table, Error> read_toml(const std::filesystem::path& path);

[[nodiscard]] Place place_of(const std::filesystem::path& path, const toml::source_region& region);
/// "limpid.toml:12 rules[3]: cause (remedy)".
[[nodiscard]] Error wrong_at(const Place& place, std::string_view field, std::string_view cause,
                             std::string_view remedy);

}  // namespace limpid
