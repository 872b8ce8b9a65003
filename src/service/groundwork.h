// What a start finds out before it opens anything: what is in the kernel, which backend and numbers are free for us, what the options come to on this host.
// Called by the service; changes nothing.
#pragma once

#include "base/log.h"
#include "intercept/backend.h"
#include "intercept/survey.h"
#include "limpid/error.h"
#include "service/service.h"

namespace limpid {

/// As whom datagrams are sent on. Unless told, with the client's own port where it is free: who looks at it sees nothing
/// new when Limpid starts or ends. But an answer to what the client has sent past us from the same port comes to our leg
/// then. It is passed on to the client, unless the filtering keeps strangers out: so not then.
[[nodiscard]] SourceMode udp_source(const ServiceOptions& options);

/// What is there, and what we are going to put beside it.
struct Groundwork {
  Survey survey;
  InterceptionOptions interception;
  Numbers numbers;
  ChosenBackend backend;
};

[[nodiscard]] Result<Groundwork> lay_groundwork(const ServiceOptions& options);

void log_warnings(const Logger& log, const Groundwork& groundwork, bool enable_forwarding);

/// A resolver on 0.0.0.0:53 looks as if it were in the way of --udp 53. It is not: the operator should not have to wonder.
void explain_udp_servers(const Logger& log, const PortSet& ports);

/// What a target on this host changes. It answers a foreign source directly, past our leg: towards it, only the host's own
/// address works. And what it sends itself must not come back to it.
[[nodiscard]] Status adapt_to_target(ServiceOptions& options, const Logger& log);

}  // namespace limpid
