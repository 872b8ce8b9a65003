// One question to a control socket and its answer: what the command line needs, and no more.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "limpid/error.h"

namespace limpid {

struct HttpAnswer {
  unsigned status = 0;
  std::string body;
  int peer = 0;  ///< the process that listens, as ours sees it; 0: it is in a process namespace that we do not see
};

/// `target`: path and arguments, encoded. The error says what is to be done where nobody listens, or where the caller may not connect.
[[nodiscard]] Result<HttpAnswer> ask_control(const std::string& socket_path, std::string_view method,
                                             std::string_view target, std::string_view body,
                                             std::chrono::seconds patience);

/// For an argument's name or value, or a part of a path (RFC 3986 section 2.1).
[[nodiscard]] std::string percent_encode(std::string_view text);

}  // namespace limpid
