// parse_trace_message: whatever the bytes are, it reads none that are not there, and what it accepts names a table and a chain.
#include <cstdint>

#include "net/nft_trace.h"
#include "tests/fuzz/property.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto event = limpid::parse_trace_message(std::as_bytes(std::span(data, size)));
  if (!event) return 0;
  using limpid::fuzz::check;
  check(!event->family.empty() && !event->table.empty() && !event->chain.empty(), "an event has a place");
  check(!to_string(event->verdict).empty(), "its verdict has a name");
  if (event->packet) {
    check(event->packet->source.family() == event->packet->destination.family(), "a packet is of one family");
  }
  return 0;
}
