// sniff_stream on HTTP/2: the input as it is, as frames behind preface and SETTINGS, and as a header block.
#include "tests/fuzz/stream_property.h"

namespace {

constexpr std::string_view kBeginning("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);

std::vector<std::byte> headers_with(std::span<const std::uint8_t> block) {
  auto stream = limpid::fuzz::joined(kBeginning, {});
  for (const std::size_t value : {block.size() >> 16U, block.size() >> 8U, block.size(), std::size_t{1}, std::size_t{5},
                                  std::size_t{0}, std::size_t{0}, std::size_t{0}, std::size_t{1}}) {
    stream.push_back(static_cast<std::byte>(value));
  }
  for (const auto byte : block) stream.push_back(static_cast<std::byte>(byte));
  return stream;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span input(data, size);
  limpid::fuzz::check_stream(limpid::fuzz::joined("", input));
  limpid::fuzz::check_stream(limpid::fuzz::joined(kBeginning, input));
  const auto request = headers_with(input);
  limpid::fuzz::check_stream(request);
  limpid::Sniffed sniffed;
  limpid::fuzz::check(size > 16384 || limpid::sniff_stream(request, sniffed) != limpid::SniffOutcome::more,
                      "a whole header block has an answer");
  return 0;
}
