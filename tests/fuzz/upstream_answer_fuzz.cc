// What upstreams answer: whole and a byte at a time, each codec takes the same bytes, ends the same way, and never takes more than it was given.
#include <array>
#include <cstdint>

#include "tests/fuzz/property.h"
#include "upstream/handshake.h"

namespace limpid {
namespace {

Handshake make(std::uint8_t choice) {
  constexpr std::array kUrls{"socks5://10.0.0.1", "socks5://me:secret@10.0.0.1",
                             "socks4://10.0.0.1", "http://10.0.0.1",
                             "proxy-v2://",       "direct://"};
  const auto upstream = parse_upstream(kUrls.at(choice % kUrls.size()));
  fuzz::check(upstream.has_value(), "the URL is one");
  return {*upstream,
          {.client = SocketAddress::parse("192.0.2.2:5000").value(),
           .destination = SocketAddress::parse("198.51.100.2:80").value(),
           .name = {}}};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  auto whole = make(data[0]);
  auto pieces = make(data[0]);
  const auto bytes = std::as_bytes(std::span(data + 1, size - 1));
  const std::size_t taken = whole.take(bytes);
  fuzz::check(taken <= bytes.size(), "no more is taken than there is");
  std::size_t taken_in_pieces = 0;
  for (const auto& byte : bytes) taken_in_pieces += pieces.take(std::span(&byte, 1));
  fuzz::check(taken == taken_in_pieces, "pieces make no difference to what is taken");
  fuzz::check(whole.state() == pieces.state(), "nor to the outcome");
  if (whole.state() == HandshakeState::running) return 0;
  fuzz::check(whole.take(bytes) == 0, "what has ended takes nothing");
  return 0;
}

}  // namespace limpid
