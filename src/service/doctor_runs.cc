// The program runs itself, as `limpid sysdump` does: the doctor forks and changes namespaces, which is nothing for a process with threads.
#include "service/doctor_runs.h"

#include <fmt/format.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/process.h"
#include "relay/clock.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

constexpr std::chrono::seconds kPatience{90};
constexpr std::int64_t kLookInterval_us = 10'000'000;

}  // namespace

Result<std::unique_ptr<DoctorRuns>> DoctorRuns::open(Runner runner) {
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop.valid()) return system_error(errno, "create eventfd", "");
  return std::unique_ptr<DoctorRuns>(new DoctorRuns(std::move(runner), std::move(stop)));
}

DoctorRuns::~DoctorRuns() {
  eventfd_write(stop_.get(), 1);
  if (thread_.joinable()) thread_.join();
}

DoctorRuns::Begun DoctorRuns::begin(Depth depth) {
  const std::int64_t now = wall_clock_us();
  {
    const std::lock_guard lock(mutex_);
    if (last_ && last_->ended_us == 0) return Begun::busy;
    const bool fresh = last_ && now >= last_->ended_us && now - last_->ended_us < kLookInterval_us;
    if (depth == Depth::look && fresh) return Begun::yes;
    last_ = Outcome{.depth = depth, .began_us = now};
  }
  if (thread_.joinable()) thread_.join();  // it has ended
  try {
    thread_ = std::thread([this, depth] { examine(depth); });
  } catch (const std::system_error&) {
    const std::lock_guard lock(mutex_);
    last_->ended_us = now;
    last_->problem = "no thread could be started";
    return Begun::failed;
  }
  return Begun::yes;
}

void DoctorRuns::examine(Depth depth) {
  auto output = runner_(depth, stop_.get());
  std::string problem = output ? std::string() : output.error().message();
  if (output && !ordered_json::accept(*output)) problem = "it has made no report";
  const std::lock_guard lock(mutex_);
  last_->ended_us = std::max(wall_clock_us(), last_->began_us + 1);
  last_->problem = std::move(problem);
  if (last_->problem.empty()) last_->report = std::move(*output);
}

std::string DoctorRuns::report() const {
  const std::lock_guard lock(mutex_);
  ordered_json json = {{"schema", 1},      {"state", "never"}, {"probed", false},  {"began", nullptr},
                       {"ended", nullptr}, {"error", nullptr}, {"report", nullptr}};
  if (last_) {
    json["state"] = last_->ended_us == 0 ? "running" : last_->problem.empty() ? "done" : "failed";
    json["probed"] = last_->depth == Depth::probe;
    json["began"] = format_timestamp(last_->began_us);
    if (last_->ended_us != 0) json["ended"] = format_timestamp(last_->ended_us);
    if (!last_->problem.empty()) json["error"] = last_->problem;
    if (!last_->report.empty()) json["report"] = ordered_json::parse(last_->report, nullptr, false);
  }
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

Result<std::string> run_doctor(const std::string& name, DoctorRuns::Depth depth, int stop) {
  std::vector<std::string> argv{"/proc/self/exe", "doctor", "--json", "--name", name};
  if (depth == DoctorRuns::Depth::look) argv.emplace_back("--no-probe");
  std::vector<std::string> environment;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing of ours changes it
  if (const char* const folder = std::getenv("LIMPID_RUN_DIRECTORY"); folder != nullptr)
    environment.push_back(std::string("LIMPID_RUN_DIRECTORY=") + folder);
  auto output = run_process(argv, {}, kPatience, environment, stop);
  if (!output) return std::unexpected(output.error());
  if (!ordered_json::accept(output->standard_output))
    return failure("run", "limpid doctor",
                   fmt::format("exit status {}: {}", output->exit_status, output->standard_error));
  return std::move(output->standard_output);
}

}  // namespace limpid
