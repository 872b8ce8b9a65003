// Is the proxy there, and can it take what it is about to be handed? Asked before rules are installed for it.
#pragma once

#include <string>
#include <vector>

#include "intercept/plan.h"
#include "limpid/error.h"
#include "proxies/profile.h"
#include "proxies/setup.h"

namespace limpid {

struct ListenerReport {
  bool ready = false;                 ///< everything in scope has a transparent listener
  std::vector<std::string> warnings;  ///< about what nobody listens for
};

/// Fails where a listener is there that cannot take what is in scope, with the line that mends it. Without a profile the remedy is what
/// any proxy needs.
[[nodiscard]] Result<ListenerReport> check_listener(const Plan& plan, const ProxyProfile* profile,
                                                    const ProxyRequest& request);

/// Fails where local traffic is in scope and whoever listens runs as a user whose connections are not left alone.
[[nodiscard]] Status check_listener_user(const Plan& plan);

}  // namespace limpid
