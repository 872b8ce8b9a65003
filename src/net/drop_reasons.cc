// The tracepoint through perf_event_open(2), for this thread alone. Its number and its reasons' names are read from a tracefs of our own
// that is mounted nowhere (fsopen(2), fsmount(2), kernel 5.2): it ends with its descriptor, and nobody sees it.
#include "net/drop_reasons.h"

#include <fcntl.h>
#include <linux/mount.h>
#include <linux/perf_event.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

namespace limpid {
namespace {

constexpr std::size_t kDataPages = 8;  // a power of two; some hundred drops

std::size_t page_bytes() {
  return static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}
/// A page that says where to read, then the data (perf_event_open(2)).
std::size_t ring_bytes() {
  return page_bytes() * (1 + kDataPages);
}

/// The number behind `key` in a line of the format file; `from` is where to look.
std::optional<std::uint64_t> number_after(std::string_view text, std::string_view key, std::size_t from = 0) {
  const auto at = text.find(key, from);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view digits = text.substr(at + key.size());
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc{}) return std::nullopt;
  return number;
}

/// "field:enum skb_drop_reason reason;\toffset:36;…"
std::optional<std::size_t> offset_of(std::string_view text, std::string_view field) {
  const auto at = text.find(std::string(" ") + std::string(field) + ";");
  if (at == std::string_view::npos) return std::nullopt;
  const auto offset = number_after(text, "offset:", at);
  if (!offset || *offset > 1024) return std::nullopt;
  return static_cast<std::size_t>(*offset);
}

Result<std::string> read_format() {
  const auto denied = [](std::string_view operation) {
    return system_error(errno, operation, "tracefs", "needs CAP_SYS_ADMIN on the host itself, and CONFIG_TRACEPOINTS");
  };
  const UniqueFd context(static_cast<int>(syscall(SYS_fsopen, "tracefs", FSOPEN_CLOEXEC)));
  if (!context.valid()) return denied("open");
  if (syscall(SYS_fsconfig, context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) != 0) return denied("make");
  const UniqueFd root(static_cast<int>(syscall(SYS_fsmount, context.get(), FSMOUNT_CLOEXEC, 0)));
  if (!root.valid()) return denied("mount");
  const UniqueFd file(openat(root.get(), "events/skb/kfree_skb/format", O_RDONLY | O_CLOEXEC));
  if (!file.valid()) return denied("read events/skb/kfree_skb of");
  std::string text(64UL * 1024, '\0');
  const ssize_t length = read(file.get(), text.data(), text.size());
  if (length < 0) return denied("read events/skb/kfree_skb of");
  text.resize(static_cast<std::size_t>(length));
  return text;
}

}  // namespace

std::optional<DropFormat> parse_drop_format(std::string_view text) {
  DropFormat format;
  const auto id = number_after(text, "ID: ");
  const auto reason = offset_of(text, "reason");
  const auto protocol = offset_of(text, "protocol");
  if (!id || !reason || !protocol) return std::nullopt;
  format.id = *id;
  format.reason_offset = *reason;
  format.protocol_offset = *protocol;
  // __print_symbolic(REC->reason, { 2, "NOT_SPECIFIED" }, …)
  auto at = text.find("__print_symbolic");
  while (at != std::string_view::npos && (at = text.find("{ ", at)) != std::string_view::npos) {
    const auto number = number_after(text, "{ ", at);
    const auto opening = text.find('"', at);
    const auto closing = opening == std::string_view::npos ? opening : text.find('"', opening + 1);
    if (!number || closing == std::string_view::npos) break;
    format.names.emplace(static_cast<std::uint32_t>(*number), text.substr(opening + 1, closing - opening - 1));
    at = closing;
  }
  return format;
}

Result<DropWatch> DropWatch::open() {
  const auto text = read_format();
  if (!text) return std::unexpected(text.error());
  auto format = parse_drop_format(*text);
  if (!format) {
    return unsupported("read", "tracepoint skb:kfree_skb", "it knows no reasons", "they came with kernel 5.17");
  }
  perf_event_attr attributes{};
  attributes.type = PERF_TYPE_TRACEPOINT;
  attributes.size = sizeof attributes;
  attributes.config = format->id;
  attributes.sample_period = 1;
  attributes.sample_type = PERF_SAMPLE_RAW;
  UniqueFd event(static_cast<int>(syscall(SYS_perf_event_open, &attributes, 0, -1, -1, PERF_FLAG_FD_CLOEXEC)));
  if (!event.valid()) return system_error(errno, "listen to", "tracepoint skb:kfree_skb", "needs CAP_PERFMON");
  void* ring = mmap(nullptr, ring_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, event.get(), 0);
  if (ring == MAP_FAILED) return system_error(errno, "map", "tracepoint skb:kfree_skb");
  return DropWatch(std::move(event), ring, std::move(*format));
}

DropWatch::DropWatch(UniqueFd event, void* ring, DropFormat format)
    : event_(std::move(event)), ring_(ring), format_(std::move(format)) {}

DropWatch::DropWatch(DropWatch&& other) noexcept
    : event_(std::move(other.event_)), ring_(std::exchange(other.ring_, nullptr)), format_(std::move(other.format_)) {}

DropWatch::~DropWatch() {
  if (ring_ != nullptr) munmap(ring_, ring_bytes());
}

std::vector<std::string> DropWatch::take(std::uint16_t ether_type) {
  std::vector<std::string> reasons;
  auto& page = *static_cast<perf_event_mmap_page*>(ring_);
  const auto* data = static_cast<const std::byte*>(ring_) + page_bytes();
  const std::size_t data_bytes = page_bytes() * kDataPages;
  const std::uint64_t head = std::atomic_ref(page.data_head).load(std::memory_order_acquire);
  std::uint64_t tail = page.data_tail;
  std::vector<std::byte> record;
  while (tail < head) {
    perf_event_header header{};
    const auto copy = [&](std::uint64_t from, std::size_t size, std::byte* to) {
      for (std::size_t i = 0; i < size; ++i) to[i] = data[(from + i) % data_bytes];
    };
    copy(tail, sizeof header, reinterpret_cast<std::byte*>(&header));
    if (header.size < sizeof header) break;
    record.resize(header.size);
    copy(tail, header.size, record.data());
    tail += header.size;
    // PERF_SAMPLE_RAW: a length of four bytes, then what the format file describes.
    const std::size_t base = sizeof header + sizeof(std::uint32_t);
    if (header.type != PERF_RECORD_SAMPLE) continue;
    if (record.size() < base + format_.reason_offset + 4 || record.size() < base + format_.protocol_offset + 2)
      continue;
    std::uint16_t protocol = 0;
    std::uint32_t reason = 0;
    std::memcpy(&protocol, &record[base + format_.protocol_offset], sizeof protocol);
    std::memcpy(&reason, &record[base + format_.reason_offset], sizeof reason);
    if (protocol != ether_type) continue;
    const auto name = format_.names.find(reason);
    reasons.push_back(name != format_.names.end() ? name->second : std::to_string(reason));
  }
  std::atomic_ref(page.data_tail).store(head, std::memory_order_release);
  return reasons;
}

}  // namespace limpid
