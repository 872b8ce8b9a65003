// Cut-through for the relay: opens it where it is wanted and possible, and translates between the relay's words and those of the cutthrough room,
// which do not know each other.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/log.h"
#include "limpid/error.h"
#include "net/grace_period.h"
#include "relay/flow_offload.h"
#include "relay/worker.h"

namespace limpid {

class CutThrough;
struct CutThroughRecord;
struct CutThroughSessionRecord;

enum class CutThroughMode : std::uint8_t {
  off,
  automatic,  ///< where the kernel can, flows that last; otherwise it is said, once, and everything is relayed
  always,     ///< each, at once; or it is an error
};

/// Where nobody insists, a flow that ends sooner stays: handing it over costs as much as relaying a short answer (docs/cut-through.md).
inline constexpr std::chrono::milliseconds kHandOverAge{20};

struct CutThroughRequest {
  CutThroughMode mode = CutThroughMode::off;
  std::string name;
  std::uint32_t mark = 0;             ///< of our own packets
  std::uint32_t filter_priority = 0;  ///< where eBPF programs are filters
  bool netfilter = false;             ///< the host's own forwarding, so its firewall, sees what was cut through
  RelayTimeouts timeouts;
  UdpTimeouts udp_timeouts;
  /// Not 0: of a predecessor that still has its sockets, and looks after what has not left it wholly, for `predecessor_stays` at most. What is there stays until own().
  std::uint64_t predecessor = 0;
  std::chrono::milliseconds predecessor_stays{0};
};

/// Programs in the kernel, and the flows in their maps. Both are gone with close(), and with the destructor.
class CutThroughOffload final : public FlowOffload {
 public:
  CutThroughOffload(std::unique_ptr<CutThrough> cut, bool netfilter, const Logger& log);
  CutThroughOffload(const CutThroughOffload&) = delete;
  CutThroughOffload& operator=(const CutThroughOffload&) = delete;
  CutThroughOffload(CutThroughOffload&&) = delete;
  CutThroughOffload& operator=(CutThroughOffload&&) = delete;
  ~CutThroughOffload() override;

  [[nodiscard]] bool is_taken(Protocol protocol, const SocketAddress& source,
                              const SocketAddress& destination) override;
  [[nodiscard]] Result<std::uint64_t> begin(const OffloadedFlow& flow) override;
  [[nodiscard]] Status settle(std::uint64_t id, LateFins fins) override;
  [[nodiscard]] std::optional<OffloadedBytes> end(std::uint64_t id) override;
  [[nodiscard]] std::uint64_t this_moment() override { return grace_periods_.ask(); }
  [[nodiscard]] bool has_passed(std::uint64_t moment) override { return grace_periods_.passed(moment); }
  void release(std::uint64_t id) override;
  [[nodiscard]] bool passes_netfilter() const noexcept override { return netfilter_; }
  [[nodiscard]] bool is_reset(std::uint64_t id) override;
  [[nodiscard]] Status begin_session(const OffloadedSession& session) override;
  [[nodiscard]] std::optional<OffloadedTraffic> session_traffic(const SocketAddress& client,
                                                                const SocketAddress& original_destination) override;
  OffloadedBytes end_session(const SocketAddress& client, const SocketAddress& original_destination) override;
  void add_to_session(const SocketAddress& client, const SocketAddress& original_destination,
                      const OffloadedBytes& bytes) override;
  std::size_t end_forbidden(
      const std::function<std::optional<std::uint32_t>(const FlowRecord&)>& forbidden_by) override;
  void collect(const std::function<void(const FlowRecord&)>& sink) override;
  void close(const std::function<void(const FlowRecord&)>& sink) override;
  void list(const std::function<void(const OffloadedLife&)>& sink) override;
  bool kill(std::uint64_t id) override;
  bool kill_session(const SocketAddress& client, const SocketAddress& original_destination) override;
  [[nodiscard]] std::size_t adopted() const noexcept override { return adopted_; }
  [[nodiscard]] std::size_t adopted_sessions() const noexcept override;

  /// What is in the kernel stays there when this goes: it is somebody else's; or is ours after all.
  void leave() noexcept { left_ = true; }
  void own() noexcept { left_ = false; }
  /// leave(), and flows that a predecessor still drains are counted among those that were there.
  void succeed();
  /// By which it knows its sessions in the kernel; a successor takes it over. Never 0.
  [[nodiscard]] std::uint64_t self() const noexcept;

  /// Attaches to interfaces that are new, and before programs that came later.
  void follow_interfaces();

 private:
  void warn(const Status& outcome);

  std::unique_ptr<CutThrough> cut_;
  const bool netfilter_;
  const Logger& log_;
  std::size_t adopted_ = 0;
  bool closed_ = false;
  std::atomic<bool> left_ = false;
  [[nodiscard]] FlowRecord complete(const CutThroughRecord& record);
  [[nodiscard]] FlowRecord complete(const CutThroughSessionRecord& record);  ///< whose last record it is
  [[nodiscard]] FlowRecord with_ruling(const CutThroughSessionRecord& record);

  GracePeriods grace_periods_;
  std::mutex mutex_;
  std::string last_warning_;                ///< under the mutex
  std::map<std::uint64_t, LateFins> late_;  ///< under the mutex: flows with late FINs or octets, few
  std::unordered_map<std::uint64_t, std::string_view> upstreams_;  ///< under the mutex: through whom
  std::set<std::uint64_t> killed_;     ///< under the mutex: by the operator, until their records are there
  std::vector<FlowRecord> refused_;    ///< under the mutex: UDP that was ended, for collect()
  std::set<std::uint64_t> forbidden_;  ///< under the mutex: TCP that was
  std::unordered_map<std::uint64_t, Ruling> rulings_;  ///< under the mutex: of the flows that rules were asked about
  std::map<std::pair<SocketAddress, SocketAddress>, Ruling>
      session_rulings_;  ///< under the mutex: the same, of UDP sessions without a socket
};

/// Empty where everything is to be relayed, also because it is impossible here: then the log says why. Flows that a killed process has left are looked after
/// whatever the mode is; `hands_over` is false if no more may follow.
struct OpenedCutThrough {
  std::unique_ptr<CutThroughOffload> offload;
  bool hands_over = false;
};
/// Whether open_cut_through() has anything to do, so needs the rights to do it.
[[nodiscard]] bool needs_cut_through(const CutThroughRequest& request);
/// To be called where needs_cut_through() has said so, which takes rights that the caller may not have any more.
[[nodiscard]] Result<OpenedCutThrough> open_cut_through(const CutThroughRequest& request, const Logger& log);

}  // namespace limpid
