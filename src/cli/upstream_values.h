// What users write about groups of upstreams, value by value: the same whether it comes from a flag or from a section of a configuration.
#pragma once

#include <string>
#include <string_view>

#include "limpid/error.h"
#include "upstream/group.h"

namespace limpid {

/// A URL as an upstream. Its password file is not read and its name not looked up: finish_upstream() does that, when all is known of it.
[[nodiscard]] Result<Upstream> read_upstream(std::string_view typed);
/// Reads its password and looks its name up. Blocks.
[[nodiscard]] Status finish_upstream(Upstream& upstream);
/// As it may be shown: without its password.
[[nodiscard]] std::string without_password(std::string_view url);

[[nodiscard]] Status read_choice(std::string_view typed, UpstreamGroupOptions& group);
[[nodiscard]] Status read_down(std::string_view typed, UpstreamGroupOptions& group);
[[nodiscard]] Status read_datagrams(std::string_view typed, UpstreamGroupOptions& group);
[[nodiscard]] Status read_timeout(std::string_view typed, UpstreamGroupOptions& group);
/// INTERVAL[,RISE,FALL]
[[nodiscard]] Status read_check(const std::string& typed, UpstreamGroupOptions& group);
/// HOST:PORT. A name is looked up.
[[nodiscard]] Status read_check_target(const std::string& typed, UpstreamGroupOptions& group);

}  // namespace limpid
