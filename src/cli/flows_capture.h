// limpid flows capture, a verb below `limpid flows`.
#pragma once

#include "cli/verb.h"

namespace limpid {

void add_flows_capture_verb(CLI::App& flows, Action& action);

}  // namespace limpid
