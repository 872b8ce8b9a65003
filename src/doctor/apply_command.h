// The `limpid rules apply` that makes an installation again, out of what is read back from it: for remedies that need other
// numbers or a fresh table. Pure.
#pragma once

#include <optional>

#include "doctor/facts.h"
#include "doctor/finding.h"

namespace limpid::doctor {

/// For an installation of `rules apply` whose scope could be read completely; with these numbers where given.
[[nodiscard]] std::optional<Command> apply_command(const Judged& judged, const std::optional<Numbers>& numbers);

/// Numbers that are free beside everything but the installation itself; empty where there are none.
[[nodiscard]] std::optional<Numbers> free_numbers(const Facts& facts, const Judged& judged);

/// The remedy that gives an installation other numbers: an `apply`, or words about `limpid run`.
[[nodiscard]] Remedy renumber(const Facts& facts, const Judged& judged);

}  // namespace limpid::doctor
