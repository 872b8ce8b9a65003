// Findings as text for people, and as JSON with a stable schema. Pure.
#pragma once

#include <cstddef>
#include <string>

#include "doctor/finding.h"

namespace limpid::doctor {

struct ReportStyle {
  bool color = false;
  bool unicode = true;
};

[[nodiscard]] std::string render_text(const Findings& findings, const ReportStyle& style);
/// docs/doctor.md, schema 1.
[[nodiscard]] std::string render_json(const Findings& findings);

[[nodiscard]] std::size_t count(const Findings& findings, Severity severity);
/// Whether something could not be looked at for want of privileges.
[[nodiscard]] bool is_incomplete(const Findings& findings);

}  // namespace limpid::doctor
