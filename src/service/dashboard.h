// Dashboard: what stands behind --dashboard: the page, and of the control API what the page needs, each request held against the Admission first. On the
// thread of the HttpServer alone.
#pragma once

#include <utility>

#include "base/log.h"
#include "control/http_server.h"
#include "dashboard/admission.h"

namespace limpid {

class Dashboard {
 public:
  /// `api` answers what is admitted; it and the log outlive this.
  Dashboard(Admission admission, HttpHandler api, const Logger& log)
      : admission_(std::move(admission)), api_(std::move(api)), log_(log) {}
  void answer(const HttpRequest& request, const HttpReply& reply);

 private:
  [[nodiscard]] std::string report_session(const HttpRequest& request) const;

  Admission admission_;
  HttpHandler api_;
  const Logger& log_;
};

}  // namespace limpid
