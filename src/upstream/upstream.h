// Upstream: one way out for flows, as a user writes it: socks5://, socks5h://, socks4://, socks4a://, http://, https://, proxy-v1://, proxy-v2://, tcp://, direct://.
// A value; who dials it is the relay.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "limpid/address.h"
#include "limpid/error.h"
#include "upstream/socks5.h"

namespace limpid {

enum class UpstreamKind : std::uint8_t { socks5, socks4, http, proxy_v1, proxy_v2, tcp, direct };

/// What is said to the upstream goes through TLS first (https://).
struct UpstreamTls {
  bool used = false;
  bool verify = true;       ///< its certificate, and that it names `server_name`
  std::string server_name;  ///< empty: the host
  std::string ca_file;      ///< PEM; empty: what the system trusts
  bool operator==(const UpstreamTls&) const = default;
};

struct Upstream {
  UpstreamKind kind = UpstreamKind::direct;
  std::string name;  ///< in logs: what was written, without user and password
  std::string host;  ///< as written, without brackets; empty for one that goes to the flow's own destination
  Port port;
  /// Where to dial. parse_upstream() fills it in for an address; a name is the caller's to resolve. Empty: the flow's own destination.
  std::optional<SocketAddress> server;
  UpstreamTls tls;
  Credentials credentials;
  std::string password_file;  ///< to be read by the caller; empty: none
  bool own_address = false;   ///< dialled with the host's own address, whatever the flow's source mode: every proxy is
  bool on_this_host = false;  ///< `server` is an address of this host's; found out by the caller
  bool wants_names = false;   ///< sends a name instead of an address where it is known
  std::string interface;      ///< leaves through it (SO_BINDTODEVICE); empty: as routes say
  std::optional<IpAddress> source;  ///< leaves with this address of the host's
  std::uint32_t mark = 0;           ///< SO_MARK of its sockets, beside the bypass mark, with which it must share no bit
  bool operator==(const Upstream&) const = default;
};

/// Whether the upstream is dialled with the host's own address: it is a server of somebody's, to whom we are a client like any other.
[[nodiscard]] bool is_proxy(UpstreamKind kind) noexcept;
/// Whether it can be asked to connect to a place of our choice, so that another upstream may be reached through it: every proxy.
[[nodiscard]] constexpr bool reaches_others(UpstreamKind kind) noexcept {
  return kind == UpstreamKind::socks5 || kind == UpstreamKind::socks4 || kind == UpstreamKind::http;
}
/// Whether `host` is a name, whose address may change.
[[nodiscard]] bool is_named(const Upstream& upstream) noexcept;
/// SOCKS5 alone.
[[nodiscard]] constexpr bool carries_datagrams(UpstreamKind kind) noexcept {
  return kind == UpstreamKind::socks5;
}

/// What `user`, `password`, … mean for an upstream, and which of them do not go together. The error names the part that is wrong, never a password.
[[nodiscard]] Status set_credentials(Upstream& upstream, const Credentials& credentials);
/// A plain number, decimal or 0x…, not 0.
[[nodiscard]] Result<std::uint32_t> parse_upstream_mark(std::string_view text);

/// SCHEME://[USER[:PASSWORD]@][HOST[:PORT]][?KEY=VALUE[&…]], %XX in user and password. The error names the part that is wrong, and
/// never shows a password.
[[nodiscard]] Result<Upstream> parse_upstream(std::string_view text);

}  // namespace limpid
