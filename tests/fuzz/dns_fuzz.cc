// sniff_datagram and sniff_stream on DNS: the input as a message over UDP, and behind its length over TCP: both find the same name.
#include "tests/fuzz/stream_property.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span input(data, size);
  limpid::Sniffed udp;
  const auto outcome = limpid::sniff_datagram(std::as_bytes(input), udp);
  const auto broken = limpid::sniff_properties::broken_answer(outcome, udp);
  limpid::fuzz::check(broken.empty(), broken.c_str());
  if (outcome == limpid::SniffOutcome::found) {
    limpid::fuzz::check(udp.name.kind() == limpid::HostName::Kind::domain || udp.name.empty(),
                        "a question is no address");
  }

  limpid::fuzz::check_stream(limpid::fuzz::joined("", input));
  if (size > 0xffff) return 0;
  const std::string length = {static_cast<char>(size >> 8U), static_cast<char>(size)};
  const auto stream = limpid::fuzz::joined(length, input);
  limpid::fuzz::check_stream(stream);
  limpid::Sniffed tcp;
  if (outcome == limpid::SniffOutcome::found && size < 0x300) {
    limpid::fuzz::check(limpid::sniff_stream(stream, tcp) == outcome && limpid::sniff_properties::same(tcp, udp),
                        "TCP and UDP find the same");
  }
  return 0;
}
