// DoctorRuns: examinations by `limpid doctor`, ordered through the control API: one at a time, each a process of its own, so that nobody who relays waits
// for it, and its outcome until the next one.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

class DoctorRuns {
 public:
  enum class Depth : std::uint8_t {
    look,   ///< reads only
    probe,  ///< tries the kernel and sends packets through the rules, too
  };
  enum class Begun : std::uint8_t { yes, busy, failed };

  /// Runs the doctor and waits for it; or until `stop` is readable, which is an error. Called on a thread of its own.
  using Runner = std::function<Result<std::string>(Depth depth, int stop)>;
  [[nodiscard]] static Result<std::unique_ptr<DoctorRuns>> open(Runner runner);
  DoctorRuns(const DoctorRuns&) = delete;
  DoctorRuns& operator=(const DoctorRuns&) = delete;
  DoctorRuns(DoctorRuns&&) = delete;
  DoctorRuns& operator=(DoctorRuns&&) = delete;
  ~DoctorRuns();  ///< ends the one that is under way

  /// By one thread at a time. A look comes at most every ten seconds: until then the last one counts, and nothing is done.
  [[nodiscard]] Begun begin(Depth depth);
  /// The schema of GET /v1/doctor.
  [[nodiscard]] std::string report() const;

 private:
  struct Outcome {
    Depth depth = Depth::look;
    std::int64_t began_us = 0;  ///< wall clock
    std::int64_t ended_us = 0;  ///< 0: under way
    std::string report{};       ///< of the doctor, as JSON
    std::string problem{};
  };

  DoctorRuns(Runner runner, UniqueFd stop) noexcept : runner_(std::move(runner)), stop_(std::move(stop)) {}
  void examine(Depth depth);

  const Runner runner_;
  const UniqueFd stop_;  ///< eventfd
  mutable std::mutex mutex_;
  std::optional<Outcome> last_;  ///< under the mutex
  std::thread thread_;
};

/// Runs this very program as `limpid doctor --json` for the instance `name`; its report. It needs more rights than who relays has.
[[nodiscard]] Result<std::string> run_doctor(const std::string& name, DoctorRuns::Depth depth, int stop);

}  // namespace limpid
