// Admission: who may ask what of the dashboard. Pure but for its limits: a request and the time in, a refusal or none out. Browsers are the danger here:
// any page that an operator looks at can make his browser send requests to this one (docs/dashboard.md, "What it defends against").
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/http_server.h"
#include "dashboard/attempt_limit.h"
#include "dashboard/secret_token.h"

namespace limpid {

/// What a request is about.
enum class Errand : std::uint8_t {
  page,     ///< the page itself, which says nothing of the instance; links may lead to it
  session,  ///< what the sender may do
  read,
  change,
};

struct Denial {
  unsigned status = 0;
  std::string why{};
  bool wrong_token = false;  ///< somebody guesses, or has mistyped it
};

/// The host in a Host header or an origin's authority, in lower case, without port and brackets; empty: it makes no sense. Any port: tunnels have others.
[[nodiscard]] std::optional<std::string> host_in(std::string_view authority);

class Admission {
 public:
  using Clock = PermitStore::Clock;
  /// So many requests that make somebody work at once, and a second.
  static constexpr double kMostRequests = 200;
  static constexpr std::chrono::milliseconds kRequestInterval{10};

  struct Options {
    std::optional<SecretToken> token{};  ///< empty: nothing can be changed
    bool reads_need_token = false;
    std::vector<std::string>
        hosts{};  ///< names by which it may be called besides its address and localhost; lower case
  };
  explicit Admission(Options options) : options_(std::move(options)) {}

  /// Empty: it may. One that names a wrong token is refused whatever it is about, the page excepted.
  [[nodiscard]] std::optional<Denial> refuse(const HttpRequest& request, Errand errand, Clock::time_point now);

  [[nodiscard]] bool takes_token() const noexcept { return options_.token.has_value(); }
  [[nodiscard]] bool reads_need_token() const noexcept { return options_.reads_need_token; }
  /// Whether a request that was not refused came with the token.
  [[nodiscard]] static bool has_token(const HttpRequest& request);

 private:
  [[nodiscard]] bool is_known_host(const HttpRequest& request) const;
  [[nodiscard]] std::optional<Denial> judge_token(const HttpRequest& request, Errand errand, Clock::time_point now);

  Options options_;
  AttemptLimit wrong_;
  PermitStore requests_{kMostRequests, kRequestInterval};
};

}  // namespace limpid
