// parse_upstream: an error has a cause and a remedy; what is accepted shows no password and can be asked for a destination.
#include <cstdint>

#include "tests/fuzz/property.h"
#include "upstream/handshake.h"
#include "upstream/socks5_datagram.h"

namespace limpid {

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // The same bytes as a datagram's: whatever is read lies within.
  const auto bytes = std::as_bytes(std::span(data, size));
  if (const auto datagram = read_socks5_datagram(bytes)) {
    fuzz::check(datagram->payload.size() < size, "a header precedes the payload");
  }
  const auto upstream = parse_upstream(fuzz::as_text(data, size));
  if (!upstream) {
    fuzz::check_user_error(upstream.error());
    return 0;
  }
  fuzz::check(!upstream->name.empty(), "it has a name");
  fuzz::check(upstream->name.find('@') == std::string::npos, "which has no credentials in it");
  const auto destination = SocketAddress::parse("198.51.100.2:80").value();
  if (!can_reach(*upstream, upstream->server.value_or(destination), destination, false)) return 0;
  const Handshake handshake(*upstream, {.client = destination, .destination = destination, .name = "example.org"});
  const bool speaks = !handshake.waiting().empty();
  const bool silent = upstream->kind == UpstreamKind::tcp || upstream->kind == UpstreamKind::direct;
  fuzz::check(speaks != silent, "all but tcp and direct have something to say");
  return 0;
}

}  // namespace limpid
