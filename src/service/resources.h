// What the host gives to this process, as far as a relay wants to know or to change it.
#pragma once

namespace limpid {

/// How many CPUs this process may use; at least 1.
[[nodiscard]] unsigned usable_cpus();

/// Raises the soft limit of open files to the hard one.
void raise_descriptor_limit();

}  // namespace limpid
