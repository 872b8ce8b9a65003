// Every reader asks for all that belongs to its message, and that nothing follows.
#include "service/handover_messages.h"

#include "base/record_codec.h"
#include "relay/handover_records.h"

namespace limpid {
namespace {

/// Both sides say it, so that what else may be at the other end is not taken for us.
constexpr std::uint32_t kMagic = 0x4c50'4831;  // "LPH1"
constexpr std::size_t kMostTextBytes = 4096;
constexpr std::uint32_t kMostCounters = 1024;
constexpr std::uint32_t kMostWorkers = 4096;

struct Message {
  explicit Message(HandoverMessage kind) { writer.value(kind); }
  std::vector<std::byte> bytes;
  RecordWriter writer{bytes};
};

/// Behind the kind, which is marked as wrong if it is another.
RecordReader open(std::span<const std::byte> packet, HandoverMessage kind) noexcept {
  RecordReader reader(packet);
  reader.require(reader.number<std::uint8_t>() == static_cast<std::uint8_t>(kind));
  return reader;
}

bool is_whole(const RecordReader& reader) noexcept {
  return reader.ok() && reader.empty();
}

}  // namespace

std::optional<HandoverMessage> kind_of(std::span<const std::byte> packet) noexcept {
  if (packet.empty()) return std::nullopt;
  const auto kind = std::to_integer<std::uint8_t>(packet.front());
  if (kind < static_cast<std::uint8_t>(HandoverMessage::hello) ||
      kind > static_cast<std::uint8_t>(HandoverMessage::serving)) {
    return std::nullopt;
  }
  return static_cast<HandoverMessage>(kind);
}

std::vector<std::byte> plain_message(HandoverMessage kind) {
  return Message(kind).bytes;
}

bool is_plain(std::span<const std::byte> packet, HandoverMessage kind) noexcept {
  return is_whole(open(packet, kind));
}

std::vector<std::byte> hello_message() {
  Message message(HandoverMessage::hello);
  message.writer.number(kMagic);
  message.writer.number(kHandoverVersion);
  return message.bytes;
}

std::optional<std::uint32_t> read_hello(std::span<const std::byte> packet) noexcept {
  auto reader = open(packet, HandoverMessage::hello);
  reader.require(reader.number<std::uint32_t>() == kMagic);
  const auto version = reader.number<std::uint32_t>();
  // What another version says behind that is its own matter.
  return reader.ok() ? std::optional(version) : std::nullopt;
}

std::vector<std::byte> refuse_message(std::string_view why) {
  Message message(HandoverMessage::refuse);
  message.writer.text(why.substr(0, kMostTextBytes));
  return message.bytes;
}

std::optional<std::string> read_refusal(std::span<const std::byte> packet) {
  auto reader = open(packet, HandoverMessage::refuse);
  auto why = reader.text(kMostTextBytes);
  return is_whole(reader) ? std::optional(std::move(why)) : std::nullopt;
}

std::vector<std::byte> instance_message(const HandedInstance& instance) {
  Message message(HandoverMessage::instance);
  auto& writer = message.writer;
  writer.number(kMagic);
  writer.number(kHandoverVersion);
  writer.text(instance.name);
  writer.value(instance.backend);
  for (const std::uint32_t number : {instance.mark.mask, instance.mark.intercept, instance.mark.bypass,
                                     instance.table.value, instance.priority.value})
    writer.number(number);
  writer.number(instance.listener.value);
  writer.number(instance.workers);
  writer.number(instance.cut_through);
  for (const std::string* text : {&instance.control_path, &instance.metrics_address, &instance.dashboard_address})
    writer.text(*text);
  return message.bytes;
}

std::optional<HandedInstance> read_instance(std::span<const std::byte> packet) {
  auto reader = open(packet, HandoverMessage::instance);
  reader.require(reader.number<std::uint32_t>() == kMagic);
  reader.require(reader.number<std::uint32_t>() == kHandoverVersion);
  HandedInstance instance;
  instance.name = reader.text(kMostTextBytes);
  instance.backend = reader.value(Backend::ebpf);
  for (std::uint32_t* number : {&instance.mark.mask, &instance.mark.intercept, &instance.mark.bypass,
                                &instance.table.value, &instance.priority.value})
    *number = reader.number<std::uint32_t>();
  instance.listener.value = reader.number<std::uint16_t>();
  instance.workers = reader.number<std::uint32_t>();
  instance.cut_through = reader.number<std::uint64_t>();
  for (std::string* text : {&instance.control_path, &instance.metrics_address, &instance.dashboard_address})
    *text = reader.text(kMostTextBytes);
  reader.require(instance.workers >= 1 && instance.workers <= kMostWorkers);
  return is_whole(reader) ? std::optional(std::move(instance)) : std::nullopt;
}

std::vector<std::byte> listeners_message(const HandedListeners& listeners) {
  Message message(HandoverMessage::listeners);
  message.writer.number(listeners.worker);
  message.writer.number(listeners.tcp);
  message.writer.number(listeners.udp);
  return message.bytes;
}

std::optional<HandedListeners> read_listeners(std::span<const std::byte> packet) noexcept {
  auto reader = open(packet, HandoverMessage::listeners);
  HandedListeners listeners;
  listeners.worker = reader.number<std::uint16_t>();
  listeners.tcp = reader.number<std::uint8_t>();
  listeners.udp = reader.number<std::uint8_t>();
  return is_whole(reader) ? std::optional(listeners) : std::nullopt;
}

std::vector<std::byte> counts_message(const HandedCounts& counts) {
  Message message(HandoverMessage::counts);
  message.writer.number(counts.sessions_without_us);
  message.writer.number(static_cast<std::uint32_t>(counts.counters.size()));
  for (const auto& [name, value] : counts.counters) {
    message.writer.text(name);
    message.writer.number(value);
  }
  return message.bytes;
}

std::optional<HandedCounts> read_counts(std::span<const std::byte> packet) {
  auto reader = open(packet, HandoverMessage::counts);
  HandedCounts counts;
  counts.sessions_without_us = reader.number<std::uint64_t>();
  const auto count = reader.number<std::uint32_t>();
  reader.require(count <= kMostCounters);
  for (std::uint32_t i = 0; reader.ok() && i < count; ++i) {
    auto name = reader.text(kMostTextBytes);
    counts.counters.emplace_back(std::move(name), reader.number<std::uint64_t>());
  }
  return is_whole(reader) ? std::optional(std::move(counts)) : std::nullopt;
}

std::vector<std::byte> totals_message(HandoverMessage kind, const HandedTotals& totals) {
  Message message(kind);
  message.writer.number(totals.flows);
  message.writer.number(totals.sessions);
  return message.bytes;
}

std::optional<HandedTotals> read_totals(std::span<const std::byte> packet, HandoverMessage kind) noexcept {
  auto reader = open(packet, kind);
  HandedTotals totals;
  totals.flows = reader.number<std::uint64_t>();
  totals.sessions = reader.number<std::uint64_t>();
  return is_whole(reader) ? std::optional(totals) : std::nullopt;
}

}  // namespace limpid
