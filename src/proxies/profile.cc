// The table. Each fact was tried with Debian 12's package (tests/netns/test_proxies.py), except for Envoy, which Debian does not have:
// those are its documentation's.
#include "proxies/profile.h"

#include <algorithm>
#include <array>

namespace limpid {
namespace {

constexpr std::array kProfiles = {
    ProxyProfile{.kind = ProxyKind::squid, .name = "squid", .title = "Squid", .page = "with-squid.md", .user = "proxy"},
    // `usesrc client` keeps the port.
    ProxyProfile{.kind = ProxyKind::haproxy,
                 .name = "haproxy",
                 .title = "HAProxy",
                 .page = "with-haproxy.md",
                 .user = "haproxy",
                 .keeps_port = true},
    // $server_addr is what the kernel says of the connection only where the listener is bound to any address
    // (ngx_connection_local_sockaddr); `listen` knows nothing of IP_TRANSPARENT, `proxy_bind … transparent` does.
    ProxyProfile{.kind = ProxyKind::nginx,
                 .name = "nginx",
                 .title = "nginx (stream)",
                 .page = "with-nginx.md",
                 .user = "www-data",
                 .keeps_port = true,
                 .listens_anywhere = true,
                 .needs_exec = true},
    ProxyProfile{.kind = ProxyKind::nginx_http,
                 .name = "nginx-http",
                 .title = "nginx (http)",
                 .page = "with-nginx.md",
                 .user = "www-data",
                 .keeps_port = true,
                 .listens_anywhere = true,
                 .needs_exec = true},
    ProxyProfile{.kind = ProxyKind::envoy, .name = "envoy", .title = "Envoy", .page = "with-envoy.md", .user = "envoy"},
    // tr-in does not go together with ip-in. Without tr-out it takes every intercepted connection for a cycle: it calls the very address
    // and port that its client has called (will_this_request_self_loop).
    ProxyProfile{.kind = ProxyKind::trafficserver,
                 .name = "trafficserver",
                 .title = "Apache Traffic Server",
                 .page = "with-trafficserver.md",
                 .user = "trafficserver",
                 .uses_own_address = false,
                 .listens_anywhere = true},
    ProxyProfile{.kind = ProxyKind::mitmproxy,
                 .name = "mitmproxy",
                 .title = "mitmproxy",
                 .page = "with-mitmproxy.md",
                 .user = {},
                 .keeps_address = false,
                 .listens_anywhere = true,
                 .needs_exec = true,
                 .asks_conntrack = true},
    ProxyProfile{.kind = ProxyKind::custom,
                 .name = "custom",
                 .title = "your proxy",
                 .page = "with-any-proxy.md",
                 .user = {},
                 .keeps_port = true,
                 .takes_datagrams = true},
};

}  // namespace

std::span<const ProxyProfile> proxy_profiles() noexcept {
  return kProfiles;
}

const ProxyProfile* find_proxy(std::string_view name) noexcept {
  const auto* found = std::ranges::find(kProfiles, name, &ProxyProfile::name);
  return found == kProfiles.end() ? nullptr : found;
}

std::string proxy_names() {
  std::string names;
  for (const ProxyProfile& profile : kProfiles) names.append(names.empty() ? "" : ", ").append(profile.name);
  return names;
}

SourceMode default_source(const ProxyProfile& profile) noexcept {
  return profile.keeps_address ? SourceMode::address : SourceMode::none;
}

bool can_be(const ProxyProfile& profile, SourceMode source) noexcept {
  switch (source) {
    case SourceMode::none: return profile.uses_own_address;
    case SourceMode::address: return profile.keeps_address;
    case SourceMode::address_and_port: return profile.keeps_port;
    // None of them tries one port and then another; about yours nothing is known.
    case SourceMode::prefer_port: return profile.kind == ProxyKind::custom;
  }
  return false;
}

}  // namespace limpid
