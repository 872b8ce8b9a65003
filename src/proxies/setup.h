// What to write into another proxy's configuration, and how to start it, so that it serves what Limpid's rules hand to it. Pure; for the
// command line, which prints it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "limpid/address.h"
#include "policy/decision.h"
#include "proxies/profile.h"

namespace limpid {

struct ProxyRequest {
  Port listener;
  bool ipv4 = true;
  bool ipv6 = true;
  SourceMode source = SourceMode::address;
  /// SO_MARK for its sockets where they have to be told from others', and for those that can set it anyway.
  std::uint32_t bypass_mark = 0;
};

/// Lines for one file of the proxy's. In all of these formats `#` begins a comment.
struct ProxyLines {
  std::string place;  ///< "/etc/squid/conf.d/limpid.conf", "/etc/nginx/nginx.conf, outside of http { }"
  std::vector<std::string> lines;
  bool operator==(const ProxyLines&) const = default;
};

struct ProxySetup {
  std::vector<ProxyLines> files;
  /// How to start it by hand; empty where it is started as ever.
  std::string command;
  std::vector<std::string> notes;  ///< privileges, and what is easily overlooked: one sentence or two each
};

/// `request.source` is one that the proxy can be (can_be()).
[[nodiscard]] ProxySetup describe_setup(const ProxyProfile& profile, const ProxyRequest& request);

/// All of it as text: the lines as they are, everything else as comments.
[[nodiscard]] std::string render_setup(const ProxyProfile& profile, const ProxySetup& setup);

/// What makes its listener for one family transparent and bound to the right address, for a message: "`http_port 127.0.0.1:3129 tproxy`
/// in /etc/squid/conf.d/limpid.conf".
[[nodiscard]] std::string listener_remedy(const ProxyProfile& profile, const ProxyRequest& request, Family family);

/// Envoy's part of describe_setup(): a whole bootstrap file.
[[nodiscard]] std::vector<std::string> envoy_lines(const ProxyRequest& request);

}  // namespace limpid
