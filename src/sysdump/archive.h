// The archive: a compressed tar file that only its owner may read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "limpid/error.h"
#include "sysdump/collect.h"

namespace limpid {

/// Makes `file`, with mode 0600; what is there already, be it a link, is an error and stays as it is. Everything in it lies below `folder`, and nothing else
/// is left of a file that could not be written to its end. Its size in bytes.
[[nodiscard]] Result<std::uint64_t> write_archive(const std::string& file, const std::string& folder,
                                                  const std::vector<SysdumpPart>& parts);

}  // namespace limpid
