// OffloadCollector: what flows that were handed over leave behind when they end, asked for by a thread of its own, because no worker has them any more.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>

#include "relay/counters.h"
#include "relay/flow_offload.h"
#include "relay/flow_record.h"
#include "relay/worker.h"

namespace limpid {

class OffloadCollector {
 public:
  /// Both outlive it.
  OffloadCollector(FlowOffload& offload, SharedRelayState& shared);
  OffloadCollector(const OffloadCollector&) = delete;
  OffloadCollector& operator=(const OffloadCollector&) = delete;
  OffloadCollector(OffloadCollector&&) = delete;
  OffloadCollector& operator=(OffloadCollector&&) = delete;
  ~OffloadCollector();

  /// Somebody waits for the flows to end: look more often.
  void hurry() noexcept;
  /// Ends those that the rules of now forbid (FlowOffload::end_forbidden()).
  std::size_t end_forbidden(Decider& decider);
  /// Looks no more, until go_on(): a successor is about to. By one thread at a time, as are the next two.
  void pause();
  void go_on();
  /// Ends those that are left, and the thread. Once no worker hands any over.
  void close();

  [[nodiscard]] const Counters& counters() const noexcept { return counters_; }
  [[nodiscard]] RecordRing& records() noexcept { return records_; }

 private:
  void work(const std::stop_token& stopped);
  void take(const FlowRecord& record) noexcept;
  void wake_reader() noexcept;

  FlowOffload& offload_;
  SharedRelayState& shared_;
  Counters counters_;  ///< written by the thread, and by close() when it has ended
  RecordRing records_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool hurried_ = false;
  bool taken_ = false;
  std::jthread thread_;  ///< last: it uses all of the above
};

}  // namespace limpid
