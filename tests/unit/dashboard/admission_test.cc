// Facts about who may ask what of the dashboard: names by which it may be called, pages of other origins, tokens, limits.
#include "dashboard/admission.h"

#include <gtest/gtest.h>

namespace limpid {
namespace {

constexpr std::string_view kToken = "0123456789abcdef0123456789abcdef";

HttpRequest request_to(const std::string& host, const std::string& at = "127.0.0.1") {
  return {.method = "GET",
          .path = "/v1/status",
          .arguments = {},
          .body = {},
          .peer = {},
          .headers = {{"host", host}},
          .from = "127.0.0.1",
          .at = at};
}

class Clock {
 public:
  [[nodiscard]] Admission::Clock::time_point now() const { return now_; }
  void pass(std::chrono::milliseconds time) { now_ += time; }

 private:
  Admission::Clock::time_point now_ = Admission::Clock::time_point(std::chrono::hours(1));
};

Admission with_token(bool reads_need_token = false) {
  return Admission({.token = SecretToken(std::string(kToken)), .reads_need_token = reads_need_token});
}

unsigned status_of(Admission& admission, const HttpRequest& request, Errand errand, const Clock& clock = {}) {
  const auto refusal = admission.refuse(request, errand, clock.now());
  return refusal ? refusal->status : 0;
}

TEST(Admission, only_names_that_nobody_else_can_make_mean_us_are_answered) {
  Admission admission({.hosts = {"router.example.org"}});
  for (const char* host : {"127.0.0.1:9080", "127.0.0.1", "localhost:9080", "LOCALHOST", "limpid.localhost:1",
                           "[::1]:8080", "127.1.2.3:80", "router.example.org", "Router.Example.Org.:9080"}) {
    EXPECT_EQ(status_of(admission, request_to(host), Errand::read), 0U) << host;
  }
  for (const char* host : {"", "evil.example", "evil.example:9080", "localhost.evil.example", "xlocalhost",
                           "192.0.2.1:9080", "127.0.0.1:x", "a b", "127.0.0.1, evil.example", "[::1", "[evil.example]",
                           "127.0.0.1@evil.example", "0x7f000001", "router.example.org.evil", ".", "localhost.."}) {
    EXPECT_EQ(status_of(admission, request_to(host), Errand::read), 421U) << host;
    EXPECT_EQ(status_of(admission, request_to(host), Errand::page), 421U) << host;
  }
  HttpRequest nameless = request_to("x");
  nameless.headers.clear();
  EXPECT_EQ(status_of(admission, nameless, Errand::page), 421U) << "HTTP/1.0";
}

TEST(Admission, beyond_loopback_localhost_is_nobody_and_the_address_counts) {
  Admission admission({});
  EXPECT_EQ(status_of(admission, request_to("192.0.2.1:9080", "192.0.2.1"), Errand::read), 0U);
  EXPECT_EQ(status_of(admission, request_to("192.0.2.1:9080", "::ffff:192.0.2.1"), Errand::read), 0U);
  EXPECT_EQ(status_of(admission, request_to("[2001:db8::1]", "2001:db8::1"), Errand::read), 0U);
  EXPECT_EQ(status_of(admission, request_to("192.0.2.2", "192.0.2.1"), Errand::read), 421U);
  EXPECT_EQ(status_of(admission, request_to("localhost", "192.0.2.1"), Errand::read), 421U);
  EXPECT_EQ(status_of(admission, request_to("127.0.0.1", "192.0.2.1"), Errand::read), 421U);
}

TEST(Admission, pages_of_other_origins_may_link_to_the_page_and_do_no_more) {
  Admission admission = with_token();
  HttpRequest request = request_to("localhost:9080");
  request.headers["authorization"] = "Bearer " + std::string(kToken);
  for (const char* site : {"cross-site", "same-site"}) {
    request.headers["sec-fetch-site"] = site;
    EXPECT_EQ(status_of(admission, request, Errand::read), 403U) << site;
    EXPECT_EQ(status_of(admission, request, Errand::change), 403U) << site;
    EXPECT_EQ(status_of(admission, request, Errand::page), 0U) << site;
  }
  request.headers["sec-fetch-site"] = "same-origin";
  for (const char* origin : {"http://evil.example", "http://localhost:3000", "http://localhost", "null", "file://",
                             "http://localhost:9080.evil.example", "ftp://localhost:9080"}) {
    request.headers["origin"] = origin;
    EXPECT_EQ(status_of(admission, request, Errand::change), 403U) << origin;
    EXPECT_EQ(status_of(admission, request, Errand::read), 403U) << origin;
  }
  for (const char* origin : {"http://localhost:9080", "https://localhost:9080"}) {
    request.headers["origin"] = origin;
    EXPECT_EQ(status_of(admission, request, Errand::change), 0U) << origin;
  }
}

TEST(Admission, changes_need_the_token_and_without_one_there_are_none) {
  Admission shows({});
  EXPECT_EQ(status_of(shows, request_to("localhost"), Errand::read), 0U);
  EXPECT_EQ(status_of(shows, request_to("localhost"), Errand::change), 403U);
  HttpRequest hopeful = request_to("localhost");
  hopeful.headers["authorization"] = "Bearer ";
  EXPECT_EQ(status_of(shows, hopeful, Errand::change), 403U);

  Admission admission = with_token();
  EXPECT_EQ(status_of(admission, request_to("localhost"), Errand::change), 401U);
  EXPECT_EQ(status_of(admission, request_to("localhost"), Errand::read), 0U);
  const Clock clock;
  HttpRequest request = request_to("localhost");
  request.headers["authorization"] = "Bearer " + std::string(kToken);
  EXPECT_EQ(status_of(admission, request, Errand::change, clock), 0U);
  request.headers["authorization"] = "Basic " + std::string(kToken);
  EXPECT_EQ(status_of(admission, request, Errand::change, clock), 401U);
  EXPECT_EQ(status_of(admission, request, Errand::read, clock), 401U) << "a wrong one is never passed over";

  Admission remote = with_token(/*reads_need_token=*/true);
  EXPECT_EQ(status_of(remote, request_to("192.0.2.1", "192.0.2.1"), Errand::read), 401U);
  EXPECT_EQ(status_of(remote, request_to("192.0.2.1", "192.0.2.1"), Errand::session), 0U);
  EXPECT_EQ(status_of(remote, request_to("192.0.2.1", "192.0.2.1"), Errand::page), 0U);
}

TEST(Admission, whoever_guesses_is_not_listened_to_for_a_while_and_others_are) {
  Admission admission = with_token();
  Clock clock;
  HttpRequest guess = request_to("localhost");
  guess.from = "192.0.2.66";
  guess.headers["authorization"] = "Bearer wrong";
  for (int i = 0; i < static_cast<int>(AttemptLimit::kMost); ++i) {
    const auto refusal = admission.refuse(guess, Errand::change, clock.now());
    ASSERT_TRUE(refusal);
    EXPECT_EQ(refusal->status, 401U);
    EXPECT_TRUE(refusal->wrong_token);
  }
  HttpRequest right = guess;
  right.headers["authorization"] = "Bearer " + std::string(kToken);
  EXPECT_EQ(status_of(admission, guess, Errand::change, clock), 429U);
  EXPECT_EQ(status_of(admission, right, Errand::change, clock), 429U) << "or guesses could go on at full speed";
  right.from = "192.0.2.67";
  EXPECT_EQ(status_of(admission, right, Errand::change, clock), 0U);
  clock.pass(AttemptLimit::kInterval);
  right.from = guess.from;
  EXPECT_EQ(status_of(admission, right, Errand::change, clock), 0U);
}

TEST(Admission, requests_that_make_work_are_limited_and_refused_ones_do_not_count) {
  Admission admission = with_token(/*reads_need_token=*/true);
  Clock clock;
  HttpRequest request = request_to("192.0.2.1", "192.0.2.1");
  for (int i = 0; i < 10 * static_cast<int>(Admission::kMostRequests); ++i)
    EXPECT_EQ(status_of(admission, request, Errand::read, clock), 401U);
  request.headers["authorization"] = "Bearer " + std::string(kToken);
  for (int i = 0; i < static_cast<int>(Admission::kMostRequests); ++i)
    ASSERT_EQ(status_of(admission, request, Errand::read, clock), 0U) << i;
  EXPECT_EQ(status_of(admission, request, Errand::read, clock), 429U);
  clock.pass(Admission::kRequestInterval);
  EXPECT_EQ(status_of(admission, request, Errand::read, clock), 0U);
}

}  // namespace
}  // namespace limpid
