// UpstreamChecks: asks upstreams regularly whether they are there, on a thread of its own; what is asked is UpstreamCheck's. Made anew when other groups are
// put to work.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "relay/tls_legs.h"
#include "upstream/groups.h"

namespace limpid {

class UpstreamChecks {
 public:
  /// Told of every change, by a check or by flows that failed, and why; called on the checks' thread.
  using Report = std::function<void(const UpstreamGroup& group, unsigned member, bool up, std::string_view cause)>;

  /// Signals that others wait for must be blocked before. `mark` is the bypass mark.
  UpstreamChecks(std::shared_ptr<const UpstreamGroups> groups, std::uint32_t mark, Report report);

 private:
  struct Member {
    UpstreamGroup* group;
    unsigned index;
    std::uint64_t next_ms;  ///< monotonic
    bool was_up;
    std::string cause;  ///< why the latest check failed; empty: it did not
  };
  void work(const std::stop_token& stopped);
  void run_round(const std::stop_token& stopped, std::uint64_t now_ms);
  void report_changes();

  std::shared_ptr<const UpstreamGroups> groups_;
  std::uint32_t mark_;
  Report report_;
  std::vector<Member> members_;
  TlsLegs tls_;
  std::jthread thread_;  ///< last: it uses all of the above
};

}  // namespace limpid
