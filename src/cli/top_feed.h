// What `limpid top` asks a running instance, on a thread of its own, so that keys work while an instance does not answer. The answers wait
// for the program's loop.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "cli/control_flags.h"
#include "cli/flow_flags.h"
#include "limpid/unique_fd.h"
#include "top/reading.h"
#include "top/rows.h"

namespace limpid {

struct TopSource {
  ControlFlags instance;
  FlowFlags which;
  unsigned limit = 0;  ///< of flows, 1 to 1000
};

/// Status, counters, and the flows that matter for that order. May take as long as the instance does.
[[nodiscard]] Result<top::Reading> ask_for_reading(const TopSource& source, top::Sort sort);

struct TopAnswer {
  std::optional<Result<top::Reading>> reading;
  std::string kill_outcome;  ///< otherwise
};

class TopFeed {
 public:
  /// Signals that the caller reads must be blocked by now.
  [[nodiscard]] static Result<TopFeed> start(TopSource source);
  TopFeed(TopFeed&& other) noexcept = default;
  TopFeed& operator=(TopFeed&& other) = delete;
  TopFeed(const TopFeed&) = delete;
  TopFeed& operator=(const TopFeed&) = delete;
  /// Does not wait for an instance that does not answer.
  ~TopFeed();

  void ask(top::Sort sort);
  void kill(const std::string& id);
  /// Readable when there is an answer; next() is called until there is none.
  [[nodiscard]] int descriptor() const noexcept;
  [[nodiscard]] std::optional<TopAnswer> next();

 private:
  struct Shared;
  explicit TopFeed(std::shared_ptr<Shared> shared) noexcept : shared_(std::move(shared)) {}
  std::shared_ptr<Shared> shared_;  ///< with the thread, which may outlive us; empty once moved from
};

}  // namespace limpid
