// The public, scoped Interception: lock, survey, plan, check, install, in this order, and its undoing.
#include "limpid/interception.h"

#include <tuple>
#include <utility>

#include "intercept/backend.h"
#include "intercept/heartbeat.h"
#include "intercept/install.h"
#include "intercept/survey.h"

namespace limpid {

struct Interception::State {
  Plan plan;
  UniqueFd instance_lock;
  std::optional<Heartbeat> heartbeat;
};

Result<Interception> Interception::install(const InterceptionOptions& options) {
  auto instance_lock = lock_instance(options.name);
  if (!instance_lock) return std::unexpected(instance_lock.error());
  const auto planning_lock = lock_planning();
  if (!planning_lock) return std::unexpected(planning_lock.error());
  auto survey = survey_kernel();
  if (!survey) return std::unexpected(survey.error());
  const auto backend = choose_backend(options.backends, options.scope);
  if (!backend) return std::unexpected(backend.error());
  InterceptionOptions chosen = options;
  chosen.backends = {backend->backend};
  auto inputs = prepare_inputs(*survey, chosen, Keeper::process, /*enable_forwarding=*/false);
  if (!inputs) return std::unexpected(inputs.error());
  auto state = std::make_unique<State>(
      State{.plan = make_plan(*inputs), .instance_lock = std::move(*instance_lock), .heartbeat = {}});
  if (auto checked = check_plan(state->plan); !checked) return std::unexpected(checked.error());
  if (auto installed = install_plan(state->plan); !installed) return std::unexpected(installed.error());
  state->heartbeat = Heartbeat::start(state->plan);
  return Interception(std::move(state));
}

Interception::Interception(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Interception::Interception(Interception&&) noexcept = default;

Interception& Interception::operator=(Interception&& other) noexcept {
  if (this != &other) {
    if (state_) std::ignore = remove();
    state_ = std::move(other.state_);
  }
  return *this;
}

Interception::~Interception() {
  if (state_) std::ignore = remove();
}

std::uint32_t Interception::bypass_mark() const noexcept {
  return state_ ? state_->plan.inputs.ownership.mark.bypass : 0;
}

Status Interception::remove() {
  if (!state_) return {};
  const std::unique_ptr<State> state = std::move(state_);
  return remove_plan(state->plan);
}

}  // namespace limpid
