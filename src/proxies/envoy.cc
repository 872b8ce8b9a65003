// Envoy's bootstrap file: a listener for each family and one cluster. Out of its documentation (the listener filters original_dst and
// original_src, the cluster type ORIGINAL_DST), not tried here: Debian has no package of it.
#include <fmt/format.h>

#include <string_view>

#include "proxies/setup.h"

namespace limpid {
namespace {

void add_listener(std::vector<std::string>& lines, const ProxyRequest& request, Family family) {
  const bool ipv4 = family == Family::ipv4;
  constexpr std::string_view kType = "\"@type\": type.googleapis.com/envoy.extensions.filters";
  lines.insert(lines.end(),
               {fmt::format("  - name: limpid_ipv{}", ipv4 ? 4 : 6), "    address:", "      socket_address:",
                fmt::format("        address: \"{}\"", IpAddress::loopback(family).to_string()),
                fmt::format("        port_value: {}", request.listener.value), "    transparent: true",
                "    listener_filters:", "    - name: envoy.filters.listener.original_dst",
                "      typed_config:", fmt::format("        {}.listener.original_dst.v3.OriginalDst", kType)});
  if (request.source != SourceMode::none) {
    lines.insert(lines.end(), {"    - name: envoy.filters.listener.original_src", "      typed_config:",
                               fmt::format("        {}.listener.original_src.v3.OriginalSrc", kType),
                               fmt::format("        mark: {}", request.bypass_mark)});
  }
  lines.insert(lines.end(), {"    filter_chains:", "    - filters:", "      - name: envoy.filters.network.tcp_proxy",
                             "        typed_config:", fmt::format("          {}.network.tcp_proxy.v3.TcpProxy", kType),
                             "          stat_prefix: limpid", "          cluster: original_destination"});
}

}  // namespace

std::vector<std::string> envoy_lines(const ProxyRequest& request) {
  std::vector<std::string> lines = {"static_resources:", "  listeners:"};
  if (request.ipv4) add_listener(lines, request, Family::ipv4);
  if (request.ipv6) add_listener(lines, request, Family::ipv6);
  lines.insert(lines.end(), {"  clusters:", "  - name: original_destination", "    type: ORIGINAL_DST",
                             "    lb_policy: CLUSTER_PROVIDED", "    connect_timeout: 5s"});
  return lines;
}

}  // namespace limpid
