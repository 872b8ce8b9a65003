// PROXY protocol headers: whole and a byte at a time are the same, a header that is accepted is bounded, and who is named is written back alike.
#include <cstdint>
#include <string>

#include "tests/fuzz/property.h"
#include "upstream/proxy_header.h"
#include "upstream/proxy_reader.h"

namespace limpid {

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  ProxyReader whole;
  ProxyReader pieces;
  const std::size_t taken = whole.take(bytes);
  std::size_t taken_in_pieces = 0;
  for (const auto& byte : bytes) taken_in_pieces += pieces.take(std::span(&byte, 1));
  fuzz::check(taken <= size && taken <= ProxyReader::kMostBytes, "what is taken is bounded");
  fuzz::check(taken == taken_in_pieces && whole.state() == pieces.state(), "pieces make no difference");
  fuzz::check(whole.client() == pieces.client() && whole.destination() == pieces.destination(), "nor to who is named");
  if (whole.state() != ProxyReader::State::done || !whole.client()) return 0;
  for (const auto version : {ProxyVersion::v1, ProxyVersion::v2}) {
    if (whole.client()->family() != whole.destination()->family()) continue;
    const ProxyHeader header(version, *whole.client(), *whole.destination());
    ProxyReader again;
    fuzz::check(again.take(header.waiting()) == header.waiting().size(), "what is written is read to its end");
    fuzz::check(again.client() == whole.client() && again.destination() == whole.destination(), "and names the same");
  }
  return 0;
}

}  // namespace limpid
