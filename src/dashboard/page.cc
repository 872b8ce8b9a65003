// With the nonce, only the style and the script that came with the page are obeyed (CSP 3): not what a mistake of ours might let somebody put into it.
#include "dashboard/page.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <array>
#include <optional>

namespace limpid {
namespace {

constexpr std::size_t kNonceBytes = 16;

std::optional<std::string> make_nonce() {
  std::array<unsigned char, kNonceBytes> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) return std::nullopt;
  std::string text;
  for (const unsigned char byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

/// trusted-types 'none': the script has no sink that would make markup of text, and gets none.
std::string policy_with(const std::string& nonce) {
  return fmt::format(
      "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; img-src data:; "
      "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types "
      "'none'",
      nonce);
}

}  // namespace

HttpResponse dashboard_page() {
  const auto nonce = make_nonce();
  constexpr unsigned kUnavailable = 503;
  if (!nonce) return {.status = kUnavailable, .body = "no random numbers\n", .content_type = "text/plain"};
  std::string body;
  body.reserve(kDashboardPage.size());
  std::string_view rest = kDashboardPage;
  for (auto mark = rest.find(kNonceMark); mark != std::string_view::npos; mark = rest.find(kNonceMark)) {
    body.append(rest.substr(0, mark)).append(*nonce);
    rest.remove_prefix(mark + kNonceMark.size());
  }
  body.append(rest);
  HttpResponse page{.status = 200, .body = std::move(body), .content_type = "text/html; charset=utf-8"};
  forbid_embedding(page);
  page.headers.emplace_back("Content-Security-Policy", policy_with(*nonce));
  page.headers.emplace_back("Permissions-Policy", "camera=(), geolocation=(), microphone=(), clipboard-read=()");
  return page;
}

void forbid_embedding(HttpResponse& response) {
  response.headers.emplace_back("X-Frame-Options", "DENY");
  response.headers.emplace_back("Referrer-Policy", "no-referrer");
}

}  // namespace limpid
