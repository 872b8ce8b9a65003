// sniff_stream on HTTP/1: the input as a whole request, and as the fields of one.
#include "tests/fuzz/stream_property.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span input(data, size);
  limpid::fuzz::check_stream(limpid::fuzz::joined("", input));
  const auto request = limpid::fuzz::joined("GET / HTTP/1.1\r\nHost: example.com\r\n", input);
  limpid::fuzz::check_stream(request);
  // A Host that stands there first is the name, or there is none.
  limpid::Sniffed sniffed;
  if (limpid::sniff_stream(request, sniffed) == limpid::SniffOutcome::found) {
    limpid::fuzz::check(sniffed.name.view() == "example.com", "what follows a Host cannot change it");
  }
  return 0;
}
