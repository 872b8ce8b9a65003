// A small file as text: /proc, configuration. Never throws, because files below /proc fail in the middle when their process ends.
#pragma once

#include <filesystem>
#include <string>

namespace limpid {

/// All of it, or what could be read until it failed; empty where it cannot be opened.
[[nodiscard]] std::string read_text(const std::filesystem::path& path);

}  // namespace limpid
