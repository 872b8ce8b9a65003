// One thread, one loop: the ring, the signals, and every half second the question what has become of the flow. When it has ended, the last packets are waited for.
#include "capture/capture.h"

#include <fmt/format.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <map>
#include <utility>

#include "base/terminal_text.h"
#include "capture/packet_ring.h"
#include "capture/pcapng.h"
#include "limpid/version.h"

namespace limpid {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kAskInterval{500};
/// An instance with very many flows is not kept busy by our questions.
constexpr int kAskShare = 20;
/// The ring's delay, and what an answer to the last packet takes.
constexpr milliseconds kFarewell{300};
constexpr int kSlowReaderMs = 1000;

std::string name_of_interface(int index) {
  std::array<char, IF_NAMESIZE> name{};
  const char* const known = if_indextoname(static_cast<unsigned>(index), name.data());
  return known != nullptr ? for_terminal(known) : fmt::format("interface {}", index);
}

std::string describe(const SocketAddress& end) {
  return end.port.value != 0 ? end.to_string() : "any";
}

bool is_regular(int fd) {
  struct stat status{};
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

class Capture {
 public:
  Capture(const CaptureOptions& options, PacketRing ring, int output)
      : options_(options),
        output_(output),
        flow_(options.flow),
        ring_(std::move(ring)),
        writer_(options.limits.snaplen, fmt::format("limpid {}", kVersion), options.comment),
        regular_(is_regular(output)) {}

  Result<CaptureSummary> run();

 private:
  struct Interface {
    int index;
    bool target_leg;
    auto operator<=>(const Interface&) const = default;
  };

  [[nodiscard]] bool take(const SeenPacket& packet);
  [[nodiscard]] bool has_all_bytes() const;
  [[nodiscard]] std::uint32_t number_of(const Interface& interface);
  void ask();
  void end(CaptureEnd why) { end_ = end_.value_or(why); }
  void end_full(CaptureEnd why) {
    full_ = true;
    end(why);
  }
  [[nodiscard]] Status read_ring();
  [[nodiscard]] Status flush();
  [[nodiscard]] bool wait_for_reader();

  const CaptureOptions& options_;
  int output_;
  CapturedFlow flow_;
  PacketRing ring_;
  PcapngWriter writer_;
  bool regular_;
  CaptureSummary summary_;
  std::optional<CaptureEnd> end_;
  bool full_ = false;  ///< not one packet more
  Clock::time_point next_question_ = Clock::now() + kAskInterval;
  std::optional<Clock::time_point> farewell_;  ///< when the flow has ended
  std::uint64_t unreported_losses_ = 0;
  std::array<std::array<std::uint64_t, 2>, 2> bytes_{};  ///< by leg and direction
  std::map<Interface, std::uint32_t> interfaces_;
};

std::uint32_t Capture::number_of(const Interface& interface) {
  const auto known = interfaces_.find(interface);
  if (known != interfaces_.end()) return known->second;
  const LegEnds& leg = interface.target_leg ? *flow_.target_leg : flow_.client_leg;
  const auto number = writer_.add_interface(name_of_interface(interface.index),
                                            fmt::format("{} leg: {} <-> {}", interface.target_leg ? "target" : "client",
                                                        describe(leg.client_side), describe(leg.target_side)));
  interfaces_.emplace(interface, number);
  return number;
}

bool Capture::has_all_bytes() const {
  const std::uint64_t wanted = options_.limits.bytes_of_direction;
  if (wanted == 0) return false;
  const auto whole = [&](const auto& leg) { return leg[0] >= wanted && leg[1] >= wanted; };
  return whole(bytes_[0]) && whole(bytes_[1]);
}

/// False: no more.
bool Capture::take(const SeenPacket& packet) {
  const bool outgoing = packet.type == PACKET_OUTGOING;
  // What goes over loopback is seen twice: as it leaves and as it arrives.
  if (outgoing && packet.hardware == ARPHRD_LOOPBACK) return true;
  const auto leg = find_leg(flow_, packet.bytes, outgoing);
  if (!leg) return true;
  const CaptureLimits& limits = options_.limits;
  auto& bytes = bytes_[leg->target_leg ? 1 : 0][leg->up ? 1 : 0];
  if (limits.bytes_of_direction != 0 && bytes >= limits.bytes_of_direction) return true;
  const std::uint64_t size = summary_.file_bytes + writer_.blocks().size() + packet.bytes.size();
  if (limits.file_bytes != 0 && size > limits.file_bytes) {
    end_full(CaptureEnd::file_size);
    return false;
  }
  writer_.add_packet(number_of({.index = packet.interface, .target_leg = leg->target_leg}), packet,
                     std::exchange(unreported_losses_, 0));
  CaptureTally& tally = leg->target_leg ? summary_.target_leg : summary_.client_leg;
  ++tally.packets;
  tally.bytes += packet.whole_bytes;
  bytes += packet.whole_bytes;
  if (limits.packets != 0 && summary_.client_leg.packets + summary_.target_leg.packets >= limits.packets)
    end_full(CaptureEnd::packets);
  if (has_all_bytes()) end_full(CaptureEnd::bytes);
  return !full_;
}

void Capture::ask() {
  const auto began = Clock::now();
  CapturedFlow now = flow_;
  const FlowNews news = options_.ask(now);
  const auto cost = std::chrono::duration_cast<milliseconds>(Clock::now() - began);
  next_question_ = Clock::now() + std::max(kAskInterval, cost * kAskShare);
  switch (news) {
    case FlowNews::same: return;
    case FlowNews::changed:
      // Where the kernel refuses it, the old one stays: better half a capture than none.
      if (ring_.set_filter(build_filter(now, options_.limits.snaplen))) flow_ = now;
      return;
    case FlowNews::ended: summary_.end = CaptureEnd::flow_ended; break;
    case FlowNews::instance_ended: summary_.end = CaptureEnd::instance_ended; break;
  }
  farewell_ = Clock::now() + kFarewell;
}

/// Before a piece for a pipe is written. False: its reader takes nothing, and we are to end.
bool Capture::wait_for_reader() {
  std::array<pollfd, 2> waiting{
      {{.fd = output_, .events = POLLOUT, .revents = 0}, {.fd = options_.stop, .events = POLLIN, .revents = 0}}};
  (void)poll(waiting.data(), waiting.size(), -1);
  if (waiting[0].revents != 0) return true;
  return poll(waiting.data(), 1, kSlowReaderMs) == 1;
}

Status Capture::flush() {
  auto rest = writer_.blocks();
  const auto whole_so_far = static_cast<off_t>(summary_.file_bytes);
  while (!rest.empty()) {
    // poll(2) says that so much can be written to a pipe without waiting.
    const std::size_t piece = regular_ ? rest.size() : std::min<std::size_t>(rest.size(), PIPE_BUF);
    if (!regular_ && !wait_for_reader()) {
      end(CaptureEnd::interrupted);
      break;
    }
    const ssize_t written = ::write(output_, rest.data(), piece);
    if (written < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (written < 0 && errno == EPIPE) {
      end(CaptureEnd::reader_gone);
      break;
    }
    if (written < 0) {
      const int code = errno;
      if (regular_) (void)ftruncate(output_, whole_so_far);
      return system_error(code, "write", "capture file", "what was captured before is in it");
    }
    summary_.file_bytes += static_cast<std::uint64_t>(written);
    rest = rest.subspan(static_cast<std::size_t>(written));
  }
  writer_.clear();
  return {};
}

Status Capture::read_ring() {
  const std::uint64_t lost = ring_.take_losses();
  summary_.lost += lost;
  unreported_losses_ += lost;
  ring_.read([this](const SeenPacket& packet) { return take(packet); });
  return flush();
}

Result<CaptureSummary> Capture::run() {
  const auto began = Clock::now();
  const auto& time = options_.limits.time;
  std::array<pollfd, 2> waiting{{{.fd = ring_.descriptor(), .events = POLLIN, .revents = 0},
                                 {.fd = options_.stop, .events = POLLIN, .revents = 0}}};
  if (auto written = flush(); !written) return std::unexpected(written.error());
  while (!end_) {
    auto until = farewell_.value_or(next_question_);
    if (time) until = std::min(until, began + *time);
    const auto patience = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
    (void)poll(waiting.data(), waiting.size(), static_cast<int>(std::max<std::int64_t>(0, patience)));
    if (waiting[1].revents != 0) end(CaptureEnd::interrupted);
    if (auto read = read_ring(); !read) return std::unexpected(read.error());
    const auto now = Clock::now();
    if (time && now - began >= *time) end(CaptureEnd::time);
    if (farewell_ && now >= *farewell_) end(summary_.end);
    if (!end_ && !farewell_ && now >= next_question_) ask();
  }
  if (*end_ == CaptureEnd::time || *end_ == CaptureEnd::interrupted) {
    // The kernel keeps the last ones back for a moment.
    (void)poll(waiting.data(), 1, static_cast<int>(PacketRing::kDelayMs * 2));
    if (auto read = read_ring(); !read) return std::unexpected(read.error());
  }
  if (interfaces_.empty()) {
    // Readers take a file without any interface for a broken one.
    (void)writer_.add_interface("any", "no packet came");
    if (auto written = flush(); !written) return std::unexpected(written.error());
  }
  summary_.end = *end_;
  return summary_;
}

}  // namespace

std::string_view to_string(CaptureEnd end) noexcept {
  switch (end) {
    case CaptureEnd::flow_ended: return "flow-ended";
    case CaptureEnd::time: return "time";
    case CaptureEnd::packets: return "packets";
    case CaptureEnd::bytes: return "bytes";
    case CaptureEnd::file_size: return "file-size";
    case CaptureEnd::interrupted: return "interrupted";
    case CaptureEnd::instance_ended: return "instance-ended";
    case CaptureEnd::reader_gone: return "reader-gone";
  }
  return "";
}

Result<CaptureSummary> capture_packets(const CaptureOptions& options) {
  auto ring = PacketRing::open(build_filter(options.flow, options.limits.snaplen));
  if (!ring) return std::unexpected(ring.error());
  const auto output = options.open_output();
  if (!output) return std::unexpected(output.error());
  options.ready();
  return Capture(options, std::move(*ring), *output).run();
}

}  // namespace limpid
