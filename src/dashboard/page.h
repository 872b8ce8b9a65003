// The dashboard's page: one document with its style and script in it, embedded in the program by the build (cmake/dashboard.cmake), and the policy under
// which a browser may show it. Knows nothing of the instance: the script asks for that.
#pragma once

#include <string>
#include <string_view>

#include "control/http_server.h"

namespace limpid {

/// As the build has put it together, with kNonceMark wherever a nonce belongs.
extern const std::string_view kDashboardPage;
inline constexpr std::string_view kNonceMark = "@NONCE@";

/// A nonce of its own for each answer: 128 random bits. Without them (getrandom(2) failed) a 503.
[[nodiscard]] HttpResponse dashboard_page();
/// For everything that is no page: nobody may put it into one of his.
void forbid_embedding(HttpResponse& response);

}  // namespace limpid
