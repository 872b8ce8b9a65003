// What the process behind a listener would do with the packet's flow, as far as it can be known from outside: from its command line, if it
// is a limpid. Reads /proc; the interpretation is pure.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "limpid/address.h"
#include "net/endpoint.h"
#include "policy/decision.h"

namespace limpid {

struct RelayIntent {
  int pid = 0;          ///< 0: nobody was found
  std::string process;  ///< its name
  bool known = false;   ///< it is a `limpid run`, so the rest means something
  std::optional<Refusal> refusal;
  SocketAddress target;
  SourceMode source = SourceMode::address;
  std::string words;  ///< "limpid (pid 12) would dial 198.51.100.2:80 as 192.0.2.2"
};

/// Out of a `limpid run`'s arguments, its name among them. False when it is another program's, or another verb.
[[nodiscard]] bool read_run_arguments(std::span<const std::string> arguments, Transport transport,
                                      PolicyOptions& options);

/// Who listens on `port`, and what for.
[[nodiscard]] RelayIntent find_intent(Transport transport, Port port, const FlowKey& flow);

}  // namespace limpid
