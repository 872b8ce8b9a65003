// The proxies of other people that Limpid knows, as data: what each can do, as whom it runs, how its listener becomes transparent.
// Values only: how a packet gets there is the intercept room's business, what to write into a proxy's configuration is setup.h's.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "policy/decision.h"

namespace limpid {

enum class ProxyKind : std::uint8_t {
  squid,
  haproxy,
  nginx,       ///< its stream module: any TCP
  nginx_http,  ///< its HTTP module
  envoy,
  trafficserver,
  mitmproxy,
  custom,  ///< any other
};

struct ProxyProfile {
  ProxyKind kind = ProxyKind::custom;
  std::string_view name;   ///< what --for takes: "squid"
  std::string_view title;  ///< "Squid"
  std::string_view page;   ///< below docs/
  /// As whom Debian's package runs it once it serves; empty: as whoever starts it.
  std::string_view user;
  bool uses_own_address = true;  ///< it can call the target from this host's address …
  bool keeps_address = true;     ///< … from the client's address …
  bool keeps_port = false;       ///< … and from the client's port
  bool takes_datagrams = false;  ///< UDP, to whichever port they are sent
  bool listens_anywhere =
      false;  ///< it must not be bound to a loopback address, or it does not ask for the original destination
  /// It cannot make its own listener transparent: `limpid exec` does.
  bool needs_exec = false;
  /// It asks conntrack for the original destination (SO_ORIGINAL_DST), which must therefore see the connections.
  bool asks_conntrack = false;
};

[[nodiscard]] std::span<const ProxyProfile> proxy_profiles() noexcept;
/// Empty-handed (nullptr) for a name that is none of theirs.
[[nodiscard]] const ProxyProfile* find_proxy(std::string_view name) noexcept;
/// "squid, haproxy, …, custom".
[[nodiscard]] std::string proxy_names();

/// What its target sees unless something else is asked for.
[[nodiscard]] SourceMode default_source(const ProxyProfile& profile) noexcept;
[[nodiscard]] bool can_be(const ProxyProfile& profile, SourceMode source) noexcept;

}  // namespace limpid
