// The control API: what operators ask and order, over HTTP. docs/control.md is its contract. Reads counters by itself, asks workers for their flows, and
// hands what changes the service to the main thread; on the thread of its HttpServer, so nobody who relays ever waits for an operator.
#pragma once

#include <memory>
#include <optional>
#include <utility>

#include "base/log.h"
#include "control/http_server.h"
#include "policy/current_rules.h"
#include "relay/relay.h"
#include "service/control_doors.h"
#include "service/dashboard.h"
#include "service/doctor_runs.h"
#include "service/instance_state.h"
#include "service/orders.h"
#include "service/plan_guard.h"

namespace limpid {

/// All outlive the API.
struct ControlParts {
  Relay& relay;
  Logger& log;
  const InstanceState& instance;
  ServiceOrders& orders;
  const CurrentRules* rules = nullptr;             ///< nullptr: none, ever
  std::shared_ptr<const PlanCondition> plan = {};  ///< nullptr: nothing to guard
  DoctorRuns* doctor = nullptr;                    ///< nullptr: nothing that it could look at
};

class ControlApi {
 public:
  /// nullptr where there is no door. The doors close with it.
  [[nodiscard]] static Result<std::unique_ptr<ControlApi>> start(const ControlParts& parts, ControlDoors doors);

 private:
  ControlApi(ControlParts parts, std::optional<ControlSocket> socket)
      : parts_(std::move(parts)), socket_(std::move(socket)) {}
  void answer(const HttpRequest& request, const HttpReply& reply);
  void answer_flows(const HttpRequest& request, const HttpReply& reply);
  void answer_flow(const HttpRequest& request, const HttpReply& reply);
  void kill_flow(const HttpRequest& request, const HttpReply& reply);
  void answer_doctor(const HttpRequest& request, const HttpReply& reply);
  void order(ServiceOrder::Kind kind, const HttpRequest& request, const HttpReply& reply);
  [[nodiscard]] HttpResponse set_log_level(const HttpRequest& request);
  [[nodiscard]] HttpResponse metrics() const;
  void note_change(const HttpRequest& request) const;

  ControlParts parts_;
  std::optional<ControlSocket> socket_;
  std::optional<Dashboard> dashboard_;
  std::unique_ptr<HttpServer> server_;  ///< last: it calls all of the above
};

}  // namespace limpid
