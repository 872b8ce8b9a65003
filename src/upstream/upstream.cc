// The reading of an upstream's URL, part by part (RFC 3986, as far as it is needed).
#include "upstream/upstream.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ranges>

#include "limpid/mark.h"
#include "net/interface_name.h"
#include "net/resolve.h"

namespace limpid {
namespace {

struct Scheme {
  std::string_view name;
  UpstreamKind kind;
  std::uint16_t usual_port;  ///< 0: none
  bool wants_names;
  bool needs_host;
  bool tls = false;
};

constexpr std::array kSchemes{
    Scheme{"socks5", UpstreamKind::socks5, 1080, false, true},
    Scheme{"socks5h", UpstreamKind::socks5, 1080, true, true},
    Scheme{"socks4", UpstreamKind::socks4, 1080, false, true},
    Scheme{"socks4a", UpstreamKind::socks4, 1080, true, true},
    Scheme{"http", UpstreamKind::http, 3128, false, true},
    Scheme{"https", UpstreamKind::http, 443, false, true, true},
    Scheme{"tcp", UpstreamKind::tcp, 0, false, true},
    Scheme{"proxy-v1", UpstreamKind::proxy_v1, 0, false, false},
    Scheme{"proxy-v2", UpstreamKind::proxy_v2, 0, false, false},
    Scheme{"direct", UpstreamKind::direct, 0, false, false},
};
constexpr std::string_view kExample = "write SCHEME://[USER:PASSWORD@]HOST:PORT, like socks5://10.0.0.1:1080";
/// RFC 1929: lengths are one byte.
constexpr std::size_t kMostCredentialBytes = 255;

/// `shown` is the text without what must not be read over somebody's shoulder.
struct Context {
  std::string_view shown;
  [[nodiscard]] std::unexpected<Error> wrong(std::string_view cause, std::string_view remedy) const {
    return usage_error("upstream", shown, cause, remedy);
  }
};

bool is_printable(std::string_view text) noexcept {
  return std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~'; });
}

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (text.size() - i < 3) return std::nullopt;
    unsigned value = 0;
    const auto [end, error] = std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16);
    if (error != std::errc{} || end != text.data() + i + 3) return std::nullopt;
    decoded += static_cast<char>(value);
    i += 2;
  }
  return decoded;
}

Status accept_credentials(const Credentials& given, const Context& context, Upstream& upstream) {
  const auto& [user, password] = given;
  if (user.empty()) return context.wrong("user: it is empty", "write USER:PASSWORD before the @");
  if (user.size() > kMostCredentialBytes || password.size() > kMostCredentialBytes) {
    return context.wrong("user or password: longer than 255 bytes", "that is all that SOCKS5 has room for");
  }
  upstream.credentials = given;
  switch (upstream.kind) {
    case UpstreamKind::socks5: return {};
    case UpstreamKind::http:
      if (user.find(':') != std::string::npos)
        return context.wrong("user: Basic authentication has no room for a colon in it", "choose another user");
      return {};
    case UpstreamKind::socks4:
      if (!password.empty())
        return context.wrong("password: SOCKS4 knows users only", "leave it out, or use socks5://");
      if (user.find('\0') != std::string::npos) return context.wrong("user: a zero byte", "leave it out");
      return {};
    case UpstreamKind::proxy_v1:
    case UpstreamKind::proxy_v2:
    case UpstreamKind::tcp:
    case UpstreamKind::direct: break;
  }
  return context.wrong("user: nobody asks for one there", "leave out what stands before the @");
}

Status read_credentials(std::string_view text, const Context& context, Upstream& upstream) {
  const auto colon = text.find(':');
  const auto user = percent_decoded(text.substr(0, colon));
  const auto password = percent_decoded(colon == std::string_view::npos ? "" : text.substr(colon + 1));
  if (!user || !password) return context.wrong("user or password: % without two hexadecimal digits", "write %25 for %");
  return accept_credentials({.user = *user, .password = *password}, context, upstream);
}

Status read_host(std::string_view text, const Scheme& scheme, const Context& context, Upstream& upstream) {
  if (text.empty()) {
    if (scheme.needs_host) return context.wrong("host: it is missing", kExample);
    return {};
  }
  if (scheme.kind == UpstreamKind::direct)
    return context.wrong("host: direct:// goes where the client goes", "write direct://, or tcp://HOST:PORT");
  std::string_view host = text;
  std::string_view port;
  bool has_port = false;
  if (text.front() == '[') {
    const auto bracket = text.find(']');
    if (bracket == std::string_view::npos) return context.wrong("host: a bracket is open", "write [2001:db8::1]:1080");
    host = text.substr(0, bracket + 1);
    const auto behind = text.substr(bracket + 1);
    has_port = !behind.empty();
    if (has_port && behind.front() != ':')
      return context.wrong("host: no port may be read behind ]", "write [2001:db8::1]:1080");
    if (has_port) port = behind.substr(1);
  } else if (const auto colon = text.find(':'); colon != std::string_view::npos) {
    if (text.find(':', colon + 1) != std::string_view::npos)
      return context.wrong("host: an IPv6 address needs brackets", "write [2001:db8::1]:1080");
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
    has_port = true;
  }
  upstream.port.value = scheme.usual_port;
  if (has_port) {
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), upstream.port.value);
    if (port.empty() || error != std::errc{} || end != port.data() + port.size() || upstream.port.value == 0)
      return context.wrong("port: not a number from 1 to 65535", kExample);
  } else if (upstream.port.value == 0) {
    return context.wrong("port: it is missing", fmt::format("write {}://HOST:PORT", scheme.name));
  }
  upstream.host = without_brackets(host);
  const auto address = literal_address(host);
  if (!address && !is_host_name(upstream.host)) return context.wrong("host: neither an address nor a name", kExample);
  if (!address) return {};
  const auto& ip = address->address;
  if (ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast())
    return context.wrong("host: no single host has this address", kExample);
  upstream.server = *address;
  upstream.server->port = upstream.port;
  return {};
}

Status read_tls_option(std::string_view key, std::string_view value, const Context& context, Upstream& upstream) {
  if (!upstream.tls.used)
    return context.wrong(fmt::format("{}: there is no TLS", key), "write https://, or leave it out");
  if (key == "verify") {
    if (value != "yes" && value != "no")
      return context.wrong("verify: not yes or no", "write verify=no, or leave it out");
    upstream.tls.verify = value == "yes";
  } else if (key == "server-name") {
    if (!is_host_name(value) && !IpAddress::parse(value))
      return context.wrong("server-name: neither a name nor an address", "write whom its certificate names");
    upstream.tls.server_name = value;
  } else {
    const auto path = percent_decoded(value);
    if (!path || !path->starts_with('/') || path->find('\0') != std::string::npos)
      return context.wrong("ca-file: not a whole path", "write ca-file=/etc/limpid/proxy-ca.pem");
    upstream.tls.ca_file = *path;
  }
  return {};
}

Status read_option(std::string_view key, std::string_view value, const Context& context, Upstream& upstream) {
  constexpr std::size_t kLongestName = 32;
  if (key == "name") {
    const bool fits = std::ranges::all_of(value, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
    });
    if (value.empty() || value.size() > kLongestName || !fits)
      return context.wrong("name: not up to 32 lower-case letters, digits, '-', '_' and '.'", "write name=office");
    upstream.name = value;
  } else if (key == "names") {
    const bool possible = upstream.kind == UpstreamKind::socks5 || upstream.kind == UpstreamKind::socks4 ||
                          upstream.kind == UpstreamKind::http;
    if (!possible || (value != "yes" && value != "no"))
      return context.wrong("names: not yes or no", "only socks5, socks4a and http take names");
    upstream.wants_names = value == "yes";
  } else if (key == "password-file") {
    if (upstream.credentials.user.empty())
      return context.wrong("password-file: there is no user", "write USER@ before the host");
    if (!upstream.credentials.password.empty())
      return context.wrong("password-file: there is a password already", "leave out one of them");
    if (value.empty() || upstream.kind == UpstreamKind::socks4)
      return context.wrong("password-file: nothing to read there", "name a file; SOCKS4 has no passwords");
    const auto path = percent_decoded(value);
    if (!path || path->find('\0') != std::string::npos)
      return context.wrong("password-file: not a path", "name a file");
    upstream.password_file = *path;
  } else if (key == "ca-file" || key == "server-name" || key == "verify") {
    return read_tls_option(key, value, context, upstream);
  } else if (key == "interface") {
    const auto name = validate_interface_name(value);
    if (!name) return context.wrong("interface: not a name of one", "write interface=eth1");
    upstream.interface = *name;
  } else if (key == "source") {
    const auto address = IpAddress::parse(value);
    if (!address) return context.wrong("source: not an address", "write source=192.0.2.1");
    upstream.source = *address;
  } else if (key == "mark") {
    const auto mark = parse_upstream_mark(value);
    if (!mark) return context.wrong(fmt::format("mark: {}", mark.error().cause), mark.error().remedy);
    upstream.mark = *mark;
  } else {
    return context.wrong(
        fmt::format("option {}: there is none of this name", is_printable(key) ? key : "?"),
        "name, names, password-file, interface, source, mark; with https:// ca-file, server-name, verify");
  }
  return {};
}

}  // namespace

bool is_proxy(UpstreamKind kind) noexcept {
  return kind == UpstreamKind::socks5 || kind == UpstreamKind::socks4 || kind == UpstreamKind::http;
}

bool is_named(const Upstream& upstream) noexcept {
  return !upstream.host.empty() && !IpAddress::parse(upstream.host).has_value();
}

Result<std::uint32_t> parse_upstream_mark(std::string_view text) {
  const auto mark = Mark::parse(text);
  if (!mark || mark->mask != 0xffffffff || mark->value == 0)
    return usage_error("mark", "", "not a number without mask, or 0", "write 0x20");
  return mark->value;
}

Status set_credentials(Upstream& upstream, const Credentials& credentials) {
  return accept_credentials(credentials, Context{upstream.name}, upstream);
}

Result<Upstream> parse_upstream(std::string_view text) {
  if (text.empty() || !is_printable(text))
    return Context{"…"}.wrong("empty, or with characters that do not print", kExample);
  const auto separator = text.find("://");
  if (separator == std::string_view::npos) return Context{"…"}.wrong("no scheme", kExample);
  const auto name = text.substr(0, separator);
  const auto scheme = std::ranges::find(kSchemes, name, &Scheme::name);
  std::string_view rest = text.substr(separator + 3);
  std::string_view query;
  if (const auto mark = rest.find('?'); mark != std::string_view::npos) {
    query = rest.substr(mark + 1);
    rest = rest.substr(0, mark);
  }
  if (query.find('@') != std::string_view::npos) {
    // It may be the end of a password.
    return Context{name}.wrong("options: there is an @ in them", "write %3F for a question mark in a password");
  }
  const auto at = rest.rfind('@');
  const auto after_user = at == std::string_view::npos ? 0 : at + 1;
  std::string_view host = rest.substr(after_user);
  if (host.ends_with('/')) host.remove_suffix(1);
  const std::string shown = fmt::format("{}://{}", name, host);
  const Context context{shown};
  if (scheme == kSchemes.end()) {
    return context.wrong(
        "the scheme is not known",
        fmt::format("those that are: {}", fmt::join(kSchemes | std::views::transform(&Scheme::name), ", ")));
  }
  Upstream upstream;
  upstream.kind = scheme->kind;
  upstream.name = shown;
  upstream.wants_names = scheme->wants_names;
  upstream.own_address = is_proxy(scheme->kind);
  upstream.tls.used = scheme->tls;
  if (at != std::string_view::npos) {
    if (auto read = read_credentials(rest.substr(0, at), context, upstream); !read)
      return std::unexpected(read.error());
  }
  if (auto read = read_host(host, *scheme, context, upstream); !read) return std::unexpected(read.error());
  while (!query.empty()) {
    const auto end = query.find('&');
    const auto item = query.substr(0, end);
    query.remove_prefix(end == std::string_view::npos ? query.size() : end + 1);
    const auto equals = item.find('=');
    if (equals == std::string_view::npos)
      return context.wrong("options: not KEY=VALUE", "write ?interface=eth1&source=192.0.2.1");
    if (auto read = read_option(item.substr(0, equals), item.substr(equals + 1), context, upstream); !read)
      return std::unexpected(read.error());
  }
  return upstream;
}

}  // namespace limpid
