// The capture of one flow: packets of its legs out of a PacketRing into a pcapng file, until a limit, a signal or the flow's end. Knows no instance: who calls says by
// `ask` what has become of the flow.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "capture/leg_filter.h"
#include "limpid/error.h"

namespace limpid {

struct CaptureLimits {
  std::optional<std::chrono::milliseconds> time{};
  std::uint64_t packets = 0;             ///< 0: no limit
  std::uint64_t bytes_of_direction = 0;  ///< of each direction of each leg, the first ones; 0: no limit
  std::uint64_t file_bytes = 0;          ///< 0: no limit
  std::uint32_t snaplen = 262144;        ///< the most of a packet, from its IP header on
};

enum class CaptureEnd : std::uint8_t {
  flow_ended,
  time,
  packets,
  bytes,
  file_size,
  interrupted,
  instance_ended,
  reader_gone
};
/// "flow-ended", "time", …
[[nodiscard]] std::string_view to_string(CaptureEnd end) noexcept;

struct CaptureTally {
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;  ///< of whole IP packets, whatever was kept of them
};

struct CaptureSummary {
  CaptureEnd end = CaptureEnd::flow_ended;
  CaptureTally client_leg;
  CaptureTally target_leg;
  std::uint64_t lost = 0;  ///< packets that found no room in the ring
  std::uint64_t file_bytes = 0;
};

enum class FlowNews : std::uint8_t { same, changed, ended, instance_ended };

struct CaptureOptions {
  CapturedFlow flow;
  CaptureLimits limits;
  std::string comment;  ///< for the file
  /// Called once, when nothing else can fail any more: where to write. Borrowed; a pipe whose reader goes away ends the capture.
  std::function<Result<int>()> open_output;
  int stop = -1;                               ///< borrowed; readable: it is to end
  std::function<FlowNews(CapturedFlow&)> ask;  ///< called twice a second; `changed`: the flow is another now
  std::function<void()> ready;                 ///< called once: packets are seen
};

/// Without CAP_NET_RAW an error of kind `unsupported`, before anything is written. A file that cannot be written to its end keeps its whole packets.
[[nodiscard]] Result<CaptureSummary> capture_packets(const CaptureOptions& options);

}  // namespace limpid
