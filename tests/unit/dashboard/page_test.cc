// Facts about the embedded page: self-contained, under a strict policy, with a nonce of its own each time.
#include "dashboard/page.h"

#include <gtest/gtest.h>

#include <map>
#include <regex>
#include <string>

namespace limpid {
namespace {

std::string header(const HttpResponse& response, const std::string& name) {
  for (const auto& [key, value] : response.headers)
    if (key == name) return value;
  return {};
}

std::size_t count(std::string_view text, std::string_view sought) {
  std::size_t found = 0;
  for (auto at = text.find(sought); at != std::string_view::npos; at = text.find(sought, at + 1)) ++found;
  return found;
}

TEST(DashboardPage, the_policy_lets_only_what_came_with_the_page_act) {
  const HttpResponse page = dashboard_page();
  ASSERT_EQ(page.status, 200U);
  const std::string policy = header(page, "Content-Security-Policy");
  std::smatch nonce;
  ASSERT_TRUE(std::regex_search(policy, nonce, std::regex("script-src 'nonce-([0-9a-f]{32})'"))) << policy;
  for (const char* part : {"default-src 'none'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'",
                           "frame-ancestors 'none'", "require-trusted-types-for 'script'"})
    EXPECT_NE(policy.find(part), std::string::npos) << part;
  EXPECT_EQ(policy.find("unsafe"), std::string::npos);
  // One style, one script, both with it, and the mark is nowhere left.
  EXPECT_EQ(count(page.body, "nonce=\"" + nonce[1].str() + "\""), 2U);
  EXPECT_EQ(count(page.body, "<script"), 1U);
  EXPECT_EQ(count(page.body, "<style"), 1U);
  EXPECT_EQ(count(page.body, kNonceMark), 0U);
  EXPECT_EQ(header(page, "X-Frame-Options"), "DENY");
  EXPECT_NE(header(dashboard_page(), "Content-Security-Policy"), policy) << "each answer has its own";
}

TEST(DashboardPage, loads_nothing_and_parses_no_markup) {
  for (const char* forbidden :
       {"src=\"", "@import", "url(", " onclick=", " onload=", " style=\"", "innerHTML", "outerHTML",
        "insertAdjacentHTML", "document.write", "eval(", "new Function", "setTimeout(\"", "@STYLE@", "@SCRIPT@"})
    EXPECT_EQ(count(kDashboardPage, forbidden), 0U) << forbidden;
  // Of addresses, only SVG's namespace, which is no address.
  EXPECT_EQ(count(kDashboardPage, "://"), count(kDashboardPage, "http://www.w3.org/2000/svg"));
  EXPECT_TRUE(kDashboardPage.ends_with("</html>\n"));
}

TEST(DashboardPage, everything_that_is_typed_into_has_a_label) {
  const std::string page(kDashboardPage);
  const std::regex field(R"re(<(input|select)[^>]*id="([^"]+)")re");
  std::map<std::string, int> fields;
  for (std::sregex_iterator each(page.begin(), page.end(), field), end; each != end; ++each) ++fields[(*each)[2].str()];
  EXPECT_EQ(fields.size(), 4U);
  for (const auto& [name, times] : fields) {
    EXPECT_EQ(times, 1) << name;
    EXPECT_EQ(count(page, "<label for=\"" + name + "\">"), 1U) << name;
  }
}

}  // namespace
}  // namespace limpid
