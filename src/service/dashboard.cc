// Not the configuration, and not reload: the page has no use for them, and they are for who may use the control socket.
#include "service/dashboard.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "dashboard/page.h"
#include "service/control_reports.h"

namespace limpid {
namespace {

constexpr std::string_view kSession = "/v1/dashboard";

struct Entry {
  std::string_view method;
  std::string_view path;
  Errand errand;
};
/// A path with a slash at its end stands for all that begin so.
constexpr std::array kEntries{Entry{"GET", "/", Errand::page},
                              Entry{"GET", kSession, Errand::session},
                              Entry{"GET", "/v1/status", Errand::read},
                              Entry{"GET", "/v1/flows", Errand::read},
                              Entry{"GET", "/v1/rules", Errand::read},
                              Entry{"GET", "/v1/counters", Errand::read},
                              Entry{"GET", "/v1/upstreams", Errand::read},
                              Entry{"GET", "/v1/log-level", Errand::read},
                              Entry{"GET", "/v1/doctor", Errand::read},
                              Entry{"POST", "/v1/doctor", Errand::read},
                              Entry{"POST", "/v1/doctor/probe", Errand::change},
                              Entry{"DELETE", "/v1/flows/", Errand::change},
                              Entry{"PUT", "/v1/log-level", Errand::change},
                              Entry{"POST", "/v1/drain", Errand::change}};

bool is_at(const Entry& entry, std::string_view path) {
  return entry.path.size() > 1 && entry.path.ends_with('/') ? path.starts_with(entry.path) : path == entry.path;
}

HttpResponse refused(const Denial& refusal) {
  HttpResponse response{.status = refusal.status, .body = report_errors({refusal.why}) + "\n"};
  forbid_embedding(response);
  constexpr unsigned kUnauthorized = 401;
  constexpr unsigned kTooMany = 429;
  if (refusal.status == kUnauthorized) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (refusal.status == kTooMany) response.headers.emplace_back("Retry-After", "10");
  return response;
}

}  // namespace

void Dashboard::answer(const HttpRequest& request, const HttpReply& reply) {
  const auto entry = std::ranges::find_if(
      kEntries, [&](const Entry& each) { return each.method == request.method && is_at(each, request.path); });
  const bool known = std::ranges::any_of(kEntries, [&](const Entry& each) { return is_at(each, request.path); });
  // What is not there is told to those only who could read what is.
  const Errand errand = entry != kEntries.end() ? entry->errand : known ? Errand::change : Errand::read;
  if (const auto refusal = admission_.refuse(request, errand, Admission::Clock::now())) {
    if (refusal->wrong_token) log_.warning("a wrong token for the dashboard", {field("from", request.from)});
    return reply.send(refused(*refusal));
  }
  constexpr unsigned kNotFound = 404;
  constexpr unsigned kWrongMethod = 405;
  if (entry == kEntries.end()) {
    return reply.send(refused({.status = known ? kWrongMethod : kNotFound,
                               .why = known ? "not in this way: see docs/dashboard.md" : "this is not here"}));
  }
  if (errand == Errand::page) return reply.send(dashboard_page());
  if (errand == Errand::session) {
    HttpResponse response{.status = 200, .body = report_session(request) + "\n"};
    forbid_embedding(response);
    return reply.send(std::move(response));
  }
  api_(request, reply);
}

std::string Dashboard::report_session(const HttpRequest& request) const {
  const bool accepted = admission_.takes_token() && Admission::has_token(request);
  return nlohmann::ordered_json({{"schema", 1},
                                 {"token", accepted                   ? "accepted"
                                           : admission_.takes_token() ? "wanted"
                                                                      : "none"},
                                 {"reads", accepted || !admission_.reads_need_token()},
                                 {"changes", accepted}})
      .dump();
}

}  // namespace limpid
