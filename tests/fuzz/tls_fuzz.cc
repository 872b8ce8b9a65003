// sniff_stream on TLS: the input as it is; as the body of a ClientHello, whole and in records whose size the input chooses.
#include <algorithm>

#include "tests/fuzz/stream_property.h"

namespace {

using Bytes = std::vector<std::byte>;

void put(Bytes& bytes, std::size_t value, std::size_t count) {
  while (count-- > 0) bytes.push_back(static_cast<std::byte>(value >> (8 * count)));
}

Bytes in_records(std::span<const std::uint8_t> body, std::size_t record_bytes) {
  Bytes message;
  put(message, 1, 1);
  put(message, body.size(), 3);
  for (const auto byte : body) message.push_back(static_cast<std::byte>(byte));
  Bytes stream;
  for (std::size_t at = 0; at < message.size(); at += record_bytes) {
    const std::size_t length = std::min(record_bytes, message.size() - at);
    put(stream, 0x160303, 3);
    put(stream, length, 2);
    stream.insert(stream.end(), message.begin() + static_cast<std::ptrdiff_t>(at),
                  message.begin() + static_cast<std::ptrdiff_t>(at + length));
  }
  return stream;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span input(data, size);
  limpid::fuzz::check_stream(limpid::fuzz::joined("", input));
  limpid::fuzz::check_stream(in_records(input, 16384));
  if (size == 0) return 0;
  // How the client cuts its hello changes nothing.
  const auto body = input.subspan(1);
  const Bytes cut = in_records(body, 1UL + data[0]);
  limpid::fuzz::check_stream(cut);
  limpid::Sniffed whole;
  limpid::Sniffed scattered;
  const auto outcome = limpid::sniff_stream(in_records(body, 16384), whole);
  if (cut.size() <= limpid::kMostStreamBytes) {
    limpid::fuzz::check(
        limpid::sniff_stream(cut, scattered) == outcome && limpid::sniff_properties::same(whole, scattered),
        "records do not change the answer");
  }
  return 0;
}
