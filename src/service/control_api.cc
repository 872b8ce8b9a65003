// A request's path and method choose one function; what takes time replies later.
#include "service/control_api.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <nlohmann/json.hpp>
#include <utility>

#include "service/control_reports.h"
#include "service/flow_parameters.h"
#include "service/metrics.h"

namespace limpid {
namespace {

constexpr unsigned kOk = 200;
constexpr unsigned kAccepted = 202;
constexpr unsigned kBadRequest = 400;
constexpr unsigned kNotFound = 404;
constexpr unsigned kWrongMethod = 405;
constexpr unsigned kConflict = 409;
constexpr std::string_view kFlows = "/v1/flows";
constexpr std::string_view kMetrics = "/metrics";
constexpr std::string_view kDoctor = "/v1/doctor";
constexpr std::string_view kDoctorProbe = "/v1/doctor/probe";
constexpr unsigned kMostConnections = 32;
/// Where descriptors are scarce, operators must not use up what the end of the service needs.
constexpr unsigned kFewConnections = 4;
constexpr rlim_t kScarce = 1024;

HttpResponse said(unsigned status, std::string body) {
  return {.status = status, .body = std::move(body) + "\n"};
}

HttpResponse refused(unsigned status, std::string_view why) {
  return said(status, report_errors({std::string(why)}));
}

unsigned most_connections() {
  rlimit limit{};
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur <= kScarce ? kFewConnections : kMostConnections;
}

}  // namespace

Result<std::unique_ptr<ControlApi>> ControlApi::start(const ControlParts& parts, ControlDoors doors) {
  if (!doors.socket && !doors.metrics.valid() && !doors.dashboard) return nullptr;
  std::unique_ptr<ControlApi> api(new ControlApi(parts, std::move(doors.socket)));
  std::vector<HttpDoor> open;
  auto* const own = api.get();
  if (api->socket_) {
    open.push_back(
        {.listener = api->socket_->take_listener(),
         .handler = [own](const HttpRequest& request, const HttpReply& reply) { own->answer(request, reply); },
         .most_connections = most_connections()});
  }
  if (doors.metrics.valid()) {
    open.push_back({.listener = std::move(doors.metrics),
                    .handler =
                        [own](const HttpRequest& request, const HttpReply& reply) {
                          if (request.path != kMetrics) return reply.send(refused(kNotFound, "only /metrics is here"));
                          if (request.method != "GET") return reply.send(refused(kWrongMethod, "it can only be read"));
                          reply.send(own->metrics());
                        },
                    .most_connections = most_connections()});
  }
  if (doors.dashboard) {
    api->dashboard_.emplace(
        Admission(std::move(doors.dashboard->admission)),
        [own](const HttpRequest& request, const HttpReply& reply) { own->answer(request, reply); }, parts.log);
    const unsigned most = most_connections();
    open.push_back({.listener = std::move(doors.dashboard->listener),
                    .handler = [own](const HttpRequest& request,
                                     const HttpReply& reply) { own->dashboard_->answer(request, reply); },
                    .most_connections = most,
                    .most_for_one_address = most == kFewConnections ? 0 : most / 2});
  }
  auto server = HttpServer::start(std::move(open));
  if (!server) return std::unexpected(server.error());
  api->server_ = std::move(*server);
  return api;
}

void ControlApi::answer(const HttpRequest& request, const HttpReply& reply) {
  const std::string_view path = request.path;
  const bool reads = request.method == "GET";
  const auto* const plan = parts_.plan.get();
  if (path.starts_with("/v1/flows/")) {
    if (reads) return answer_flow(request, reply);
    if (request.method != "DELETE") return reply.send(refused(kWrongMethod, "GET shows a flow, DELETE ends it"));
    return kill_flow(request, reply);
  }
  if (path == "/v1/reload" || path == "/v1/drain" || path == "/v1/upgrade") {
    if (request.method != "POST") return reply.send(refused(kWrongMethod, "POST orders it"));
    using enum ServiceOrder::Kind;
    return order(path == "/v1/reload" ? reload : path == "/v1/drain" ? drain : upgrade, request, reply);
  }
  if (path == kDoctor || path == kDoctorProbe) return answer_doctor(request, reply);
  if (path == "/v1/log-level" && request.method == "PUT") return reply.send(set_log_level(request));
  constexpr std::array<std::string_view, 8> kReadable{"/v1/status",    kFlows,       "/v1/rules",     "/v1/counters",
                                                      "/v1/upstreams", "/v1/config", "/v1/log-level", kMetrics};
  if (std::ranges::find(kReadable, path) == kReadable.end())
    return reply.send(refused(kNotFound, "there is no such endpoint: see docs/control.md"));
  if (!reads) return reply.send(refused(kWrongMethod, "it can only be read"));
  if (path == kFlows) return answer_flows(request, reply);
  if (path == kMetrics) return reply.send(metrics());
  if (path == "/v1/status")
    return reply.send(said(kOk, report_status(parts_.relay, parts_.instance, plan, parts_.log.level())));
  if (path == "/v1/rules") return reply.send(said(kOk, report_rules(parts_.rules)));
  if (path == "/v1/counters") return reply.send(said(kOk, report_counters(parts_.relay)));
  if (path == "/v1/upstreams") return reply.send(said(kOk, report_upstreams(parts_.relay)));
  if (path == "/v1/log-level") return reply.send(said(kOk, report_log_level(parts_.log.level())));
  const std::string configuration = report_configuration(parts_.instance.situation().description);
  reply.send(configuration.empty() ? refused(kNotFound, "this instance was started without a configuration")
                                   : said(kOk, configuration));
}

void ControlApi::answer_flows(const HttpRequest& request, const HttpReply& reply) {
  auto query = parse_flow_query(request.arguments);
  if (!query) return reply.send(refused(kBadRequest, query.error().message()));
  // Who is called first by a worker must know the search: it is put there before any worker is asked.
  const auto place = std::make_shared<std::shared_ptr<FlowSearch>>();
  const auto asked = std::make_shared<std::atomic<int>>(2);
  // The second one of both sends: the last worker, or we ourselves once the search is in its place.
  const auto send = [this, reply, place, asked] {
    if (asked->fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    reply.send([this, place] {
      const auto search = std::exchange(*place, nullptr);
      const FlowPage page = parts_.relay.finish_search(*search);
      return said(kOk, to_json(page, search->query()));
    });
  };
  *place = parts_.relay.search_flows(std::move(*query), send);
  send();
}

void ControlApi::answer_flow(const HttpRequest& request, const HttpReply& reply) {
  const auto name = FlowName::parse(std::string_view(request.path).substr(kFlows.size() + 1));
  if (!name) return reply.send(refused(kBadRequest, name.error().message()));
  parts_.relay.view_flow(*name, [reply](const std::optional<FlowView>& flow) {
    reply.send(flow ? said(kOk, to_json(*flow)) : refused(kNotFound, "there is no such flow, or no more"));
  });
}

void ControlApi::kill_flow(const HttpRequest& request, const HttpReply& reply) {
  const std::string text = request.path.substr(kFlows.size() + 1);
  const auto name = FlowName::parse(text);
  if (!name) return reply.send(refused(kBadRequest, name.error().message()));
  note_change(request);
  parts_.relay.kill_flow(*name, [reply, text](bool killed) {
    reply.send(killed ? said(kOk, nlohmann::ordered_json({{"ok", true}, {"id", text}}).dump())
                      : refused(kNotFound, "there is no such flow, or no more"));
  });
}

void ControlApi::answer_doctor(const HttpRequest& request, const HttpReply& reply) {
  if (parts_.doctor == nullptr) return reply.send(refused(kNotFound, "this instance intercepts nothing"));
  const bool probes = request.path == kDoctorProbe;
  if (request.method == "GET" && !probes) return reply.send(said(kOk, parts_.doctor->report()));
  if (request.method != "POST") return reply.send(refused(kWrongMethod, "POST orders an examination"));
  if (probes) note_change(request);
  using enum DoctorRuns::Begun;
  switch (parts_.doctor->begin(probes ? DoctorRuns::Depth::probe : DoctorRuns::Depth::look)) {
    case yes: return reply.send(said(kAccepted, parts_.doctor->report()));
    case busy: return reply.send(refused(kConflict, "an examination is under way"));
    case failed: return reply.send(refused(kConflict, "no examination could be started"));
  }
}

void ControlApi::order(ServiceOrder::Kind kind, const HttpRequest& request, const HttpReply& reply) {
  ServiceOrder order{.kind = kind, .body = request.body};
  if (!request.body.empty()) {
    const auto json = nlohmann::ordered_json::parse(request.body, nullptr, /*allow_exceptions=*/false);
    if (!json.is_object()) return reply.send(refused(kBadRequest, "the body is no JSON object"));
    // What is not understood must not be left undone in silence.
    for (const auto& [key, value] : json.items()) {
      if (key != (kind == ServiceOrder::Kind::reload ? "abort" : "timeout_ms"))
        return reply.send(refused(kBadRequest, "no such member: " + key));
    }
    if (json.contains("abort")) {
      if (!json["abort"].is_boolean()) return reply.send(refused(kBadRequest, "abort: true or false"));
      order.abort = json["abort"].get<bool>();
    }
    if (json.contains("timeout_ms")) {
      constexpr std::uint64_t kLongestDrain = std::uint64_t{7} * 24 * 3600 * 1000;
      constexpr std::uint64_t kLongestUpgrade = 50'000;  // an answer has to come within HttpServer::kLongestWait
      const bool drains = kind == ServiceOrder::Kind::drain;
      const auto& timeout = json["timeout_ms"];
      if (!timeout.is_number_unsigned() || timeout.get<std::uint64_t>() > (drains ? kLongestDrain : kLongestUpgrade))
        return reply.send(refused(kBadRequest, drains ? "timeout_ms: milliseconds, a week at most"
                                                      : "timeout_ms: milliseconds, 50 seconds at most"));
      order.timeout = std::chrono::milliseconds(timeout.get<std::int64_t>());
    }
  }
  const bool upgrades = kind == ServiceOrder::Kind::upgrade;
  if (upgrades && upgrade_ordered_->exchange(true)) return reply.send(refused(kConflict, "an upgrade is under way"));
  note_change(request);
  const unsigned done = kind == ServiceOrder::Kind::drain ? kAccepted : kOk;
  order.answer = [reply, done, upgrades, ordered = upgrade_ordered_](const std::string& json, bool ok) {
    if (upgrades) ordered->store(false);
    reply.send(said(ok ? done : kConflict, json));
  };
  if (!parts_.orders.put(std::move(order))) reply.send(refused(kConflict, why_no_orders()));
}

void ControlApi::retire() {
  if (socket_) socket_->leave();
  server_->retire();
}

HttpResponse ControlApi::set_log_level(const HttpRequest& request) {
  const auto json = nlohmann::ordered_json::parse(request.body, nullptr, /*allow_exceptions=*/false);
  const auto level = json.is_object() && json.contains("level") && json["level"].is_string()
                         ? parse_log_level(json["level"].get<std::string>())
                         : std::nullopt;
  if (!level)
    return refused(kBadRequest, R"(the body is to be {"level": "debug"}; levels: debug, info, warning, error)");
  note_change(request);
  parts_.log.set_level(*level);
  return said(kOk, report_log_level(*level));
}

HttpResponse ControlApi::metrics() const {
  return {.status = kOk,
          .body = render_metrics(parts_.relay, parts_.instance, parts_.rules, parts_.plan.get()),
          .content_type = "text/plain; version=0.0.4; charset=utf-8"};
}

void ControlApi::note_change(const HttpRequest& request) const {
  std::vector<Field> fields{field("method", request.method), field("path", request.path)};
  if (request.from.empty()) {
    const HttpPeer peer = request.peer.value_or(HttpPeer{});
    fields.push_back(field("uid", peer.uid));
    fields.push_back(field("pid", static_cast<std::uint64_t>(peer.pid)));
  } else {
    fields.push_back(field("dashboard", request.from));
  }
  parts_.log.info("an operator's order", fields);
}

}  // namespace limpid
