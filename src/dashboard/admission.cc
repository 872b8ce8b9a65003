// What a browser adds by itself cannot be forged by a page: Host, Origin and Sec-Fetch-Site. What a page of another origin cannot add without being asked
// first (CORS), and we never consent: Authorization.
#include "dashboard/admission.h"

#include <algorithm>
#include <cctype>

#include "base/ascii.h"
#include "limpid/address.h"

namespace limpid {
namespace {

constexpr unsigned kUnauthorized = 401;
constexpr unsigned kForbidden = 403;
constexpr unsigned kMisdirected = 421;
constexpr unsigned kTooMany = 429;
constexpr std::string_view kScheme = "Bearer ";

std::string_view header(const HttpRequest& request, std::string_view name) {
  const auto found = request.headers.find(name);
  return found == request.headers.end() ? std::string_view() : std::string_view(found->second);
}

std::optional<IpAddress> address_of(std::string_view text) {
  const auto parsed = IpAddress::parse(text);
  return parsed ? std::optional(parsed->unmapped()) : std::nullopt;
}

/// What follows "scheme://", if the scheme is one of the web.
std::string_view authority_of(std::string_view origin) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (origin.starts_with(scheme)) return origin.substr(scheme.size());
  }
  return {};
}

bool is_foreign_page(const HttpRequest& request) {
  const auto site = header(request, "sec-fetch-site");
  if (!site.empty() && site != "same-origin" && site != "none") return true;
  // Behind a proxy that speaks TLS, the scheme is another one; host and port are not.
  const auto origin = header(request, "origin");
  if (origin.empty()) return false;
  const auto authority = authority_of(origin);
  return authority.empty() || authority != header(request, "host");
}

std::string_view token_in(const HttpRequest& request) {
  const auto given = header(request, "authorization");
  return given.starts_with(kScheme) ? given.substr(kScheme.size()) : std::string_view();
}

}  // namespace

std::optional<std::string> host_in(std::string_view authority) {
  std::string host;
  std::string_view rest;
  if (authority.starts_with('[')) {
    const auto end = authority.find(']');
    if (end == std::string_view::npos) return std::nullopt;
    host = authority.substr(1, end - 1);
    rest = authority.substr(end + 1);
    if (!address_of(host)) return std::nullopt;
  } else {
    const auto colon = authority.find(':');
    host = authority.substr(0, colon);
    rest = colon == std::string_view::npos ? std::string_view() : authority.substr(colon);
  }
  const bool any_port =
      rest.empty() ||
      (rest.starts_with(':') && std::ranges::all_of(rest.substr(1), [](char c) { return c >= '0' && c <= '9'; }));
  const bool plain = std::ranges::all_of(host, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == ':';
  });
  if (host.empty() || !any_port || !plain) return std::nullopt;
  host = ascii_lower(host);
  if (host.ends_with('.')) host.pop_back();  // the root: the same name
  if (host.empty() || host.ends_with('.')) return std::nullopt;
  return host;
}

bool Admission::has_token(const HttpRequest& request) {
  return !token_in(request).empty();
}

bool Admission::is_known_host(const HttpRequest& request) const {
  const auto host = host_in(header(request, "host"));
  if (!host) return false;
  if (std::ranges::find(options_.hosts, *host) != options_.hosts.end()) return true;
  const auto at = address_of(request.at);
  if (!at) return false;
  // A tunnel may begin at another loopback address than ours.
  if (const auto literal = address_of(*host)) return *literal == *at || (literal->is_loopback() && at->is_loopback());
  return at->is_loopback() && (*host == "localhost" || host->ends_with(".localhost"));
}

std::optional<Denial> Admission::judge_token(const HttpRequest& request, Errand errand, Clock::time_point now) {
  const bool given = !header(request, "authorization").empty();
  if (given && options_.token) {
    if (wrong_.is_exhausted(request.from, now))
      return Denial{.status = kTooMany, .why = "too many wrong tokens from this address: wait ten seconds"};
    if (options_.token->matches(token_in(request))) return std::nullopt;
    wrong_.note_wrong(request.from, now);
    return Denial{.status = kUnauthorized, .why = "this is not the token", .wrong_token = true};
  }
  if (errand == Errand::change && !options_.token)
    return Denial{.status = kForbidden,
                  .why = "this dashboard only shows: it was started without --dashboard-token-file"};
  if (errand == Errand::change || (errand == Errand::read && options_.reads_need_token))
    return Denial{.status = kUnauthorized, .why = "this needs the token: Authorization: Bearer TOKEN"};
  return std::nullopt;
}

std::optional<Denial> Admission::refuse(const HttpRequest& request, Errand errand, Clock::time_point now) {
  if (!is_known_host(request)) {
    return Denial{.status = kMisdirected,
                  .why =
                      "the dashboard is not called so: use its address or localhost, or start it with "
                      "--dashboard-host NAME"};
  }
  if (errand == Errand::page) return std::nullopt;
  if (is_foreign_page(request)) return Denial{.status = kForbidden, .why = "a page of another origin asks"};
  if (auto refusal = judge_token(request, errand, now)) return refusal;
  if (!requests_.take(now)) return Denial{.status = kTooMany, .why = "too many requests: wait a second"};
  return std::nullopt;
}

}  // namespace limpid
