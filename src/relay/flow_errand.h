// FlowErrand: a question about a worker's flows, or the wish to end some, on its way to the worker that owns them and back. The worker looks at a bounded
// number of slots a turn, so a million flows hold nobody up; who asked hears of the end by `done`, on the worker's thread.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "relay/flow_query.h"

namespace limpid {

struct FlowErrand {
  std::shared_ptr<const FlowQuery> query{};  ///< nullptr: `kill`, `look`, or `audits`
  std::optional<FlowName> kill{};           ///< nothing of the four: only whether the worker still comes to its errands
  std::optional<FlowName> look{};           ///< at one flow
  std::unique_ptr<FlowCollection> found{};  ///< of `query`
  std::optional<FlowView> seen{};           ///< of `look`; empty: there is none of that name
  bool killed = false;
  bool audits = false;           ///< ends the flows that the rules of now forbid
  std::size_t ended = 0;         ///< so many
  std::function<void()> done{};  ///< called once; must neither block nor take long

  // Where the worker is.
  bool in_udp = false;
  std::uint32_t next = 0;
};

/// Errands that wait for a worker. Touched only when there is one: the hot path never comes here.
class ErrandBox {
 public:
  /// From any thread. False: nobody reads any more.
  [[nodiscard]] bool put(std::shared_ptr<FlowErrand> errand);
  /// By the worker.
  void take(std::vector<std::shared_ptr<FlowErrand>>& into);
  /// By the worker, at its end: what still waits is handed over, and nothing more is accepted.
  void close(std::vector<std::shared_ptr<FlowErrand>>& into);

 private:
  std::mutex mutex_;
  std::vector<std::shared_ptr<FlowErrand>> waiting_;
  bool closed_ = false;
};

/// What became of an audit of all flows.
struct AuditOutcome {
  std::size_t ended = 0;
  bool complete = true;  ///< false: a worker was not done when patience was over; it goes on
};

/// A question to all workers at once. Outlives its errands, because each holds it.
class FlowSearch {
 public:
  FlowSearch(FlowQuery query, std::function<void()> done) : query_(std::move(query)), done_(std::move(done)) {}
  [[nodiscard]] const FlowQuery& query() const noexcept { return query_; }

 private:
  friend class Relay;
  FlowQuery query_;
  std::function<void()> done_;
  std::vector<std::shared_ptr<FlowErrand>> errands_;
  std::atomic<std::size_t> open_{0};
};

}  // namespace limpid
