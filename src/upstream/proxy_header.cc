// Version 1 is a line of text, version 2 sixteen bytes and the addresses.
#include "upstream/proxy_header.h"

#include <fmt/format.h>

namespace limpid {
namespace {

constexpr std::uint8_t kProxyCommand = 0x21;  // version 2, PROXY
constexpr std::uint8_t kTcp4 = 0x11;
constexpr std::uint8_t kTcp6 = 0x21;

void put_address(Outgoing& outgoing, const IpAddress& address, bool as_ipv6) {
  if (as_ipv6 && address.family() == Family::ipv4) {
    for (int i = 0; i < 10; ++i) outgoing.put(0);
    outgoing.put16(0xffff);
  }
  outgoing.put(address);
}

}  // namespace

ProxyHeader::ProxyHeader(ProxyVersion version, const SocketAddress& client, const SocketAddress& destination) {
  const bool same_family = client.family() == destination.family();
  const bool ipv4 = same_family && client.family() == Family::ipv4;
  if (version == ProxyVersion::v1) {
    outgoing_.put(same_family
                      ? fmt::format("PROXY {} {} {} {} {}\r\n", ipv4 ? "TCP4" : "TCP6", client.address.to_string(),
                                    destination.address.to_string(), client.port.value, destination.port.value)
                      : std::string("PROXY UNKNOWN\r\n"));
    return;
  }
  for (const auto byte : kProxySignature) outgoing_.put(byte);
  outgoing_.put(kProxyCommand);
  outgoing_.put(ipv4 ? kTcp4 : kTcp6);
  outgoing_.put16(ipv4 ? 12 : 36);
  put_address(outgoing_, client.address, !ipv4);
  put_address(outgoing_, destination.address, !ipv4);
  outgoing_.put16(client.port.value);
  outgoing_.put16(destination.port.value);
}

}  // namespace limpid
