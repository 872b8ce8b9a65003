// The lines of each proxy. What they say was read in its documentation and tried with it; tests paste what is printed here.
#include "proxies/setup.h"

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace limpid {
namespace {

constexpr std::string_view kSquidFile = "/etc/squid/conf.d/limpid.conf";
constexpr std::string_view kHaproxyFile = "/etc/haproxy/haproxy.cfg";
constexpr std::string_view kTrafficserverFile = "/etc/trafficserver/records.config";

std::vector<Family> families_of(const ProxyRequest& request) {
  std::vector<Family> families;
  if (request.ipv4) families.push_back(Family::ipv4);
  if (request.ipv6) families.push_back(Family::ipv6);
  return families;
}

/// "127.0.0.1:3129" or "[::1]:3129".
std::string on_loopback(Family family, Port port) {
  return SocketAddress{.address = IpAddress::loopback(family), .port = port}.to_string();
}

/// `limpid exec` with what it has to give: transparency and, where both legs have one 5-tuple, the mark that keeps them out of conntrack.
std::string under_exec(const ProxyRequest& request, std::string_view program) {
  return keeps_port(request.source)
             ? fmt::format("limpid exec --transparent --mark {:#x} -- {}", request.bypass_mark, program)
             : fmt::format("limpid exec -- {}", program);
}

/// A systemd drop-in that starts the unit's own command under `limpid exec`.
ProxyLines drop_in(std::string_view unit, const ProxyRequest& request, std::string_view program) {
  return {.place = fmt::format("/etc/systemd/system/{}.d/limpid.conf", unit),
          .lines = {"[Service]", "ExecStart=", "ExecStart=" + under_exec(request, program)}};
}

ProxySetup squid(const ProxyRequest& request) {
  std::vector<std::string> lines;
  for (const Family family : families_of(request)) {
    lines.push_back(fmt::format("http_port {} tproxy", on_loopback(family, request.listener)));
  }
  if (request.source == SourceMode::none) lines.emplace_back("spoof_client_ip deny all");
  return {.files = {{.place = std::string(kSquidFile), .lines = std::move(lines)}},
          .command = {},
          .notes = {
              "Squid keeps CAP_NET_ADMIN when it becomes the user proxy; a unit or container must not take it away.",
              "Debian's squid.conf refuses everybody but this host: allow your clients, for example with `http_access "
              "allow localnet`.",
              "An http_port understands HTTP only, not TLS: give it port 80, not 443."}};
}

ProxySetup haproxy(const ProxyRequest& request) {
  std::vector<std::string> lines = {"listen limpid", "    mode tcp", "    option tcplog"};
  for (const Family family : families_of(request)) {
    lines.push_back(fmt::format("    bind {} transparent", on_loopback(family, request.listener)));
  }
  lines.emplace_back("    tcp-request connection reject if { dst 127.0.0.0/8 ::1 }");
  if (request.source != SourceMode::none) {
    lines.push_back(fmt::format("    source 0.0.0.0 usesrc {}", keeps_port(request.source) ? "client" : "clientip"));
  }
  lines.emplace_back("    server original_destination 0.0.0.0");
  ProxySetup setup{
      .files = {{.place = std::string(kHaproxyFile), .lines = std::move(lines)}}, .command = {}, .notes = {}};
  if (keeps_port(request.source)) setup.command = under_exec(request, "haproxy -Ws -f /etc/haproxy/haproxy.cfg");
  if (request.source == SourceMode::none) {
    setup.notes.emplace_back("The listener is made while HAProxy is root, before it becomes the user haproxy.");
  } else {
    setup.notes.emplace_back(
        "To call as the client takes CAP_NET_RAW. HAProxy 2.9 and newer keep it with `setcap cap_net_raw` in the "
        "section "
        "global; older ones must stay root: take `user` and `group` out of that section.");
    setup.notes.emplace_back(
        "With --local an HAProxy that stays root is not told from other programs by its user: add --exclude-cgroup "
        "system.slice/haproxy.service.");
  }
  return setup;
}

std::string nginx_bind(const ProxyRequest& request, Family family) {
  if (!keeps_port(request.source)) return "proxy_bind $remote_addr transparent;";
  return family == Family::ipv4 ? "proxy_bind $remote_addr:$remote_port transparent;"
                                : "proxy_bind [$remote_addr]:$remote_port transparent;";
}

std::string nginx_listen(const ProxyRequest& request, Family family) {
  const std::uint16_t port = request.listener.value;
  return family == Family::ipv4 ? fmt::format("listen {};", port) : fmt::format("listen [::]:{} ipv6only=on;", port);
}

std::string_view nginx_target(Family family) {
  return family == Family::ipv4 ? "$server_addr:$server_port" : "[$server_addr]:$server_port";
}

ProxyLines nginx_stream(const ProxyRequest& request) {
  std::vector<std::string> lines = {"stream {"};
  for (const Family family : families_of(request)) {
    const std::string_view name = family == Family::ipv4 ? "$limpid_ipv4" : "$limpid_ipv6";
    // Who dials this port itself has no original destination but nginx, which would call itself for ever.
    lines.push_back(fmt::format("    map $server_port {} {{ {} \"\"; default {}; }}", name, request.listener.value,
                                nginx_target(family)));
  }
  for (const Family family : families_of(request)) {
    lines.emplace_back("    server {");
    lines.push_back("        " + nginx_listen(request, family));
    lines.push_back(fmt::format("        proxy_pass {};", family == Family::ipv4 ? "$limpid_ipv4" : "$limpid_ipv6"));
    if (request.source != SourceMode::none) lines.push_back("        " + nginx_bind(request, family));
    lines.emplace_back("    }");
  }
  lines.emplace_back("}");
  return {.place = "/etc/nginx/nginx.conf, outside of http { }", .lines = std::move(lines)};
}

ProxyLines nginx_http(const ProxyRequest& request) {
  std::vector<std::string> lines;
  for (const Family family : families_of(request)) {
    lines.insert(lines.end(), {"server {", "    " + nginx_listen(request, family),
                               fmt::format("    if ($server_port = {}) {{ return 444; }}", request.listener.value),
                               "    location / {", fmt::format("        proxy_pass http://{};", nginx_target(family)),
                               "        proxy_http_version 1.1;", "        proxy_set_header Host $http_host;"});
    if (request.source != SourceMode::none) lines.push_back("        " + nginx_bind(request, family));
    lines.insert(lines.end(), {"    }", "}"});
  }
  return {.place = "/etc/nginx/conf.d/limpid.conf", .lines = std::move(lines)};
}

ProxySetup nginx(const ProxyRequest& request, ProxyLines lines, bool stream) {
  ProxySetup setup;
  setup.files.push_back(std::move(lines));
  // As in the package's nginx.service.
  setup.files.push_back(drop_in("nginx.service", request, "/usr/sbin/nginx -g 'daemon on; master_process on;'"));
  setup.command = under_exec(request, "nginx");
  if (stream) setup.notes.emplace_back("Debian has the stream module in libnginx-mod-stream.");
  setup.notes.emplace_back(
      "nginx cannot make its listener transparent: limpid exec does. Its workers keep CAP_NET_RAW for `proxy_bind … "
      "transparent` (1.13.8 and newer).");
  setup.notes.emplace_back(fmt::format(
      "The listener has to be on every address, or nginx does not ask for the original destination. Whoever dials port "
      "{} itself is turned away.",
      request.listener.value));
  return setup;
}

ProxySetup trafficserver(const ProxyRequest& request) {
  std::string ports;
  for (const Family family : families_of(request)) {
    ports += fmt::format(" {}:tr-full{}", request.listener.value, family == Family::ipv6 ? ":ipv6" : "");
  }
  return {
      .files = {{.place = std::string(kTrafficserverFile),
                 .lines = {"CONFIG proxy.config.http.server_ports STRING" + ports,
                           "CONFIG proxy.config.url_remap.remap_required INT 0",
                           "CONFIG proxy.config.http.use_client_target_addr INT 1"}}},
      .command = {},
      .notes = {"The lines replace those of the same names; add `8080 8080:ipv6` to the ports if the others are still "
                "wanted.",
                "Traffic Server keeps CAP_NET_ADMIN when it becomes the user trafficserver.",
                fmt::format("It listens on every address; the rules reject whoever dials port {} itself.",
                            request.listener.value)}};
}

ProxySetup envoy(const ProxyRequest& request) {
  return {.files = {{.place = "/etc/envoy/envoy.yaml", .lines = envoy_lines(request)}},
          .command = {},
          .notes = {"Envoy needs CAP_NET_ADMIN, for its listener and to call as the client.",
                    "Out of Envoy's documentation; not tried with it, because Debian has no package."}};
}

ProxySetup mitmproxy(const ProxyRequest& request) {
  const std::string_view host = request.ipv4 && request.ipv6 ? ""
                                : request.ipv4               ? "--listen-host 0.0.0.0 "
                                                             : "--listen-host :: ";
  return {
      .files = {},
      .command = under_exec(
          request, fmt::format("mitmdump --mode transparent {}--listen-port {}", host, request.listener.value)),
      .notes = {
          "mitmproxy cannot make its listener transparent: limpid exec does. mitmproxy and mitmweb are started "
          "alike.",
          "It listens on every address and would call itself without end; the rules reject whoever dials its port "
          "itself.",
          "It asks conntrack for the original destination, so the rules see to it that conntrack is at work.",
          "With --local it has to run as a user of its own: limpid exec --user NAME, and --exclude-uid NAME here."}};
}

ProxySetup custom(const ProxyRequest& request) {
  std::vector<std::string> notes;
  std::string where;
  for (const Family family : families_of(request)) {
    where += (where.empty() ? "" : " and ") + on_loopback(family, request.listener);
  }
  notes.push_back(fmt::format(
      "It listens on {}, with IP_TRANSPARENT (IPV6_TRANSPARENT) set before bind; or limpid exec sets it.", where));
  notes.emplace_back("The address that the client dialled is the accepted socket's own (getsockname).");
  if (request.source != SourceMode::none) {
    notes.push_back(
        fmt::format("To call as the client: IP_TRANSPARENT, then bind to the client's address{}, then connect. That "
                    "takes CAP_NET_ADMIN or CAP_NET_RAW.",
                    keeps_port(request.source) ? " and port" : ", port 0"));
  }
  if (keeps_port(request.source)) {
    notes.push_back(
        fmt::format("All of its sockets, the listener included, carry the mark {:#x} (SO_MARK).", request.bypass_mark));
  }
  return {.files = {}, .command = under_exec(request, "PROGRAM"), .notes = std::move(notes)};
}

}  // namespace

ProxySetup describe_setup(const ProxyProfile& profile, const ProxyRequest& request) {
  switch (profile.kind) {
    case ProxyKind::squid: return squid(request);
    case ProxyKind::haproxy: return haproxy(request);
    case ProxyKind::nginx: return nginx(request, nginx_stream(request), /*stream=*/true);
    case ProxyKind::nginx_http: return nginx(request, nginx_http(request), /*stream=*/false);
    case ProxyKind::envoy: return envoy(request);
    case ProxyKind::trafficserver: return trafficserver(request);
    case ProxyKind::mitmproxy: return mitmproxy(request);
    case ProxyKind::custom: break;
  }
  return custom(request);
}

std::string render_setup(const ProxyProfile& profile, const ProxySetup& setup) {
  std::string text;
  for (const ProxyLines& file : setup.files) {
    text += fmt::format("# {}, in {}\n", profile.title, file.place);
    for (const std::string& line : file.lines) text += line + '\n';
    text += '\n';
  }
  if (!setup.command.empty()) text += fmt::format("# Started by hand:\n#   {}\n\n", setup.command);
  for (const std::string& note : setup.notes) text += fmt::format("# {}\n", note);
  return text;
}

std::string listener_remedy(const ProxyProfile& profile, const ProxyRequest& request, Family family) {
  const std::string loopback = on_loopback(family, request.listener);
  const std::uint16_t port = request.listener.value;
  switch (profile.kind) {
    case ProxyKind::squid: return fmt::format("`http_port {} tproxy` in {}", loopback, kSquidFile);
    case ProxyKind::haproxy: return fmt::format("`bind {} transparent` in {}", loopback, kHaproxyFile);
    case ProxyKind::nginx:
    case ProxyKind::nginx_http:
      return fmt::format("`{}` in its configuration, and start it by `{}`", nginx_listen(request, family),
                         under_exec(request, "nginx"));
    case ProxyKind::envoy:
      return fmt::format("`transparent: true` for the listener on {} in /etc/envoy/envoy.yaml", loopback);
    case ProxyKind::trafficserver:
      return fmt::format("`{}:tr-full{}` in proxy.config.http.server_ports of {}", port,
                         family == Family::ipv6 ? ":ipv6" : "", kTrafficserverFile);
    case ProxyKind::mitmproxy: return fmt::format("start it by `{}`", mitmproxy(request).command);
    case ProxyKind::custom: break;
  }
  return fmt::format("listen on {} with {}, or start it by `{}`", loopback,
                     family == Family::ipv4 ? "IP_TRANSPARENT" : "IPV6_TRANSPARENT", under_exec(request, "PROGRAM"));
}

}  // namespace limpid
