// What a predecessor hands over: records of flows, sessions, rulings and datagrams, and the messages around them.
#include <cstdint>
#include <span>

#include "relay/handover_records.h"
#include "service/handover_messages.h"
#include "tests/fuzz/property.h"

namespace {

using limpid::fuzz::check;

template <class Read>
void read_all(std::span<const std::byte> bytes, Read read) {
  limpid::RecordReader reader(bytes);
  while (!reader.empty()) {
    if (!read(reader)) return;
    check(reader.ok(), "what was read without a fault is there");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  read_all(bytes, [](limpid::RecordReader& reader) {
    const auto handed = limpid::read_flow(reader);
    if (!handed) return false;
    check(handed->held_up <= limpid::BufferPool::kLargestBytes, "held bytes fit into a buffer");
    check(handed->has_pipe_down || handed->flow.down.piped == 0, "bytes in a pipe have one");
    check(handed->has_client || handed->has_target, "there is a socket");
    return true;
  });
  read_all(bytes, [](limpid::RecordReader& reader) { return limpid::read_session(reader).has_value(); });
  read_all(bytes, [](limpid::RecordReader& reader) {
    const auto handed = limpid::read_ruling(reader);
    if (handed) check(limpid::is_decided(*handed->ruling), "only what is decided is remembered");
    return handed.has_value();
  });
  read_all(bytes, [](limpid::RecordReader& reader) { return limpid::read_datagram(reader).has_value(); });
  if (const auto instance = limpid::read_instance(bytes))
    check(limpid::instance_message(*instance).size() == size, "what is read is written the same way");
  if (const auto counts = limpid::read_counts(bytes))
    check(limpid::counts_message(*counts).size() == size, "what is read is written the same way");
  std::ignore = limpid::read_refusal(bytes);
  std::ignore = limpid::read_hello(bytes);
  std::ignore = limpid::read_listeners(bytes);
  return 0;
}
