// Cut-through for the relay: opens it where it is wanted and possible, and translates between the relay's words and those of the cutthrough room,
// which do not know each other.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/log.h"
#include "limpid/error.h"
#include "relay/flow_offload.h"
#include "relay/worker.h"

namespace limpid {

class CutThrough;
struct CutThroughRecord;

enum class CutThroughMode : std::uint8_t {
  off,
  automatic,  ///< where the kernel can; otherwise it is said, once, and everything is relayed
  always,     ///< or it is an error
};

struct CutThroughRequest {
  CutThroughMode mode = CutThroughMode::off;
  std::string name;
  std::uint32_t mark = 0;             ///< of our own packets
  std::uint32_t filter_priority = 0;  ///< where eBPF programs are filters
  RelayTimeouts timeouts;
};

/// Programs in the kernel, and the flows in their maps. Both are gone with close(), and with the destructor.
class CutThroughOffload final : public FlowOffload {
 public:
  CutThroughOffload(std::unique_ptr<CutThrough> cut, const Logger& log);
  CutThroughOffload(const CutThroughOffload&) = delete;
  CutThroughOffload& operator=(const CutThroughOffload&) = delete;
  CutThroughOffload(CutThroughOffload&&) = delete;
  CutThroughOffload& operator=(CutThroughOffload&&) = delete;
  ~CutThroughOffload() override;

  [[nodiscard]] bool is_taken(const SocketAddress& source, const SocketAddress& destination) override;
  [[nodiscard]] Result<std::uint64_t> begin(const OffloadedFlow& flow) override;
  [[nodiscard]] Status settle(std::uint64_t id, LateFins fins) override;
  [[nodiscard]] OffloadedBytes end(std::uint64_t id) override;
  [[nodiscard]] bool is_reset(std::uint64_t id) override;
  void collect(const std::function<void(const FlowRecord&)>& sink) override;
  void close(const std::function<void(const FlowRecord&)>& sink) override;
  [[nodiscard]] std::size_t adopted() const noexcept override { return adopted_; }

  /// Attaches to interfaces that are new, and before programs that came later.
  void follow_interfaces();

 private:
  void warn(const Status& outcome);

  std::unique_ptr<CutThrough> cut_;
  const Logger& log_;
  std::size_t adopted_ = 0;
  bool closed_ = false;
  [[nodiscard]] FlowRecord complete(const CutThroughRecord& record);

  std::mutex mutex_;
  std::string last_warning_;                      ///< under the mutex
  std::map<std::uint64_t, OffloadedBytes> late_;  ///< under the mutex: flows with late FINs, few
};

/// Empty where everything is to be relayed, also because it is impossible here: then the log says why. Flows that a killed process has left are looked after
/// whatever the mode is; `hands_over` is false if no more may follow.
struct OpenedCutThrough {
  std::unique_ptr<CutThroughOffload> offload;
  bool hands_over = false;
};
[[nodiscard]] Result<OpenedCutThrough> open_cut_through(const CutThroughRequest& request, const Logger& log);

}  // namespace limpid
