// The version of Limpid, as `limpid --version` and the package have it.
#pragma once

namespace limpid {

inline constexpr const char* kVersion = "0.1.0";

}  // namespace limpid
