// Each value by itself, with the flag's name in the error; what belongs together is for others to check.
#include "cli/upstream_values.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <optional>
#include <system_error>
#include <utility>

#include "base/file_text.h"
#include "cli/duration.h"
#include "cli/flag_values.h"
#include "limpid/unique_fd.h"
#include "net/resolve.h"
#include "relay/tls_session.h"

namespace limpid {
namespace {

constexpr std::size_t kMostPasswordBytes = 255;

/// Who is root with few capabilities, as in our unit, reads files of root's alone; and a unit's homes and /tmp are not the host's.
std::string remedy_for_unreadable(int code, const std::string& path) {
  if (code == EACCES) {
    const uid_t user = geteuid();
    return fmt::format(
        "chown {} {} && chmod 600 {}{}", user == 0 ? "root" : std::to_string(user), path, path,
        user == 0 ? ": without CAP_DAC_OVERRIDE, as in limpid.service, root reads its own files only" : "");
  }
  return "one line with the password; for limpid.service neither in /tmp nor below /home or /root, which it does not "
         "see";
}

Status read_password(Upstream& upstream) {
  const std::string& path = upstream.password_file;
  if (path.empty()) return {};
  const auto wrong_file = [&](std::string_view cause, std::string_view remedy) {
    return usage_error("--upstream", upstream.name, fmt::format("password-file: {}: {}", path, cause), remedy);
  };
  if (const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)); !file.valid()) {
    const int code = errno;
    return wrong_file(std::generic_category().message(code), remedy_for_unreadable(code, path));
  }
  std::string password = read_text(path);
  while (password.ends_with('\n') || password.ends_with('\r')) password.pop_back();
  if (password.empty() || password.size() > kMostPasswordBytes)
    return wrong_file("it is empty, or longer than 255 bytes", "one line with the password");
  upstream.credentials.password = std::move(password);
  return {};
}

Status find_server(Upstream& upstream) {
  if (upstream.server || upstream.host.empty()) return {};
  std::optional<Family> family;
  if (upstream.source) family = upstream.source->family();
  auto found = resolve_host(upstream.host, family, /*numeric=*/false);
  if (!found) {
    Error error = std::move(found.error());
    error.operation = "--upstream";
    return std::unexpected(std::move(error));
  }
  upstream.server = found->front();
  upstream.server->port = upstream.port;
  return {};
}

}  // namespace

Result<Upstream> read_upstream(std::string_view typed) {
  auto upstream = parse_upstream(typed);
  if (upstream) return upstream;
  Error error = std::move(upstream.error());
  error.operation = "--upstream";
  return std::unexpected(std::move(error));
}

Status finish_upstream(Upstream& upstream) {
  if (auto read = read_password(upstream); !read) return read;
  if (upstream.tls.used) {
    if (auto checked = check_tls_settings(upstream); !checked) return checked;
  }
  if (auto found = find_server(upstream); !found) return found;
  if (upstream.source && upstream.server && upstream.source->family() != upstream.server->family()) {
    return usage_error("--upstream", upstream.name, "source: of the other address family than the upstream",
                       "give an address of this host of the same family");
  }
  return {};
}

std::string without_password(std::string_view url) {
  const auto scheme = url.find("://");
  const auto query = url.find('?');
  const auto at = url.substr(0, query).rfind('@');
  if (scheme == std::string_view::npos || at == std::string_view::npos || at < scheme) return std::string(url);
  const auto colon = url.find(':', scheme + 3);
  if (colon == std::string_view::npos || colon > at) return std::string(url);
  return fmt::format("{}:…{}", url.substr(0, colon), url.substr(at));
}

Status read_choice(std::string_view typed, UpstreamGroupOptions& group) {
  for (const auto choice : {UpstreamChoice::order, UpstreamChoice::round_robin, UpstreamChoice::least_latency,
                            UpstreamChoice::source_hash}) {
    if (typed != to_string(choice)) continue;
    group.choice = choice;
    return {};
  }
  return usage_error("--upstream-choice", typed, "no such choice", "order, round-robin, least-latency or source-hash");
}

Status read_down(std::string_view typed, UpstreamGroupOptions& group) {
  if (typed != "direct" && typed != "reject") {
    return usage_error("--upstream-down", typed, "no such outcome", "direct (go without) or reject");
  }
  group.down = typed == "direct" ? GroupDown::direct : GroupDown::reject;
  return {};
}

Status read_datagrams(std::string_view typed, UpstreamGroupOptions& group) {
  if (typed == "upstream") {
    group.datagrams = DatagramWay::upstream;
  } else if (typed == "direct") {
    group.datagrams = DatagramWay::direct;
  } else if (typed == "reject") {
    group.datagrams = DatagramWay::reject;
  } else {
    return usage_error("--upstream-udp", typed, "no such way", "upstream (SOCKS5 only), direct or reject");
  }
  return {};
}

Status read_check(const std::string& typed, UpstreamGroupOptions& group) {
  constexpr std::string_view kRemedy = "INTERVAL or INTERVAL,RISE,FALL: 10s,2,3";
  constexpr std::uint32_t kMost = 100;
  const auto first = typed.find(',');
  const auto interval = parse_duration("--upstream-check", typed.substr(0, first));
  if (!interval) return std::unexpected(interval.error());
  constexpr std::chrono::milliseconds kShortest{100};
  if (interval->count() != 0 && *interval < kShortest) {
    return usage_error("--upstream-check", typed, "too often", "at least 100ms, or 0 for never");
  }
  group.check_interval = *interval;
  if (first == std::string::npos) return {};
  const auto second = typed.find(',', first + 1);
  if (second == std::string::npos) return usage_error("--upstream-check", typed, "FALL is missing", kRemedy);
  const auto rise = parse_number("--upstream-check", typed.substr(first + 1, second - first - 1), 1, kMost, "RISE");
  if (!rise) return std::unexpected(rise.error());
  const auto fall = parse_number("--upstream-check", typed.substr(second + 1), 1, kMost, "FALL");
  if (!fall) return std::unexpected(fall.error());
  group.rise = *rise;
  group.fall = *fall;
  return {};
}

Status read_timeout(std::string_view typed, UpstreamGroupOptions& group) {
  const auto timeout = parse_duration("--upstream-timeout", std::string(typed));
  if (!timeout) return std::unexpected(timeout.error());
  if (timeout->count() == 0)
    return usage_error("--upstream-timeout", typed, "an upstream needs some time", "write 10s");
  group.timeout = *timeout;
  return {};
}

Status read_check_target(const std::string& typed, UpstreamGroupOptions& group) {
  auto target = resolve_target(typed);
  if (!target) {
    Error error = std::move(target.error());
    if (error.kind == ErrorKind::usage) return wrong("--upstream-check-target", typed, error);
    error.operation = "--upstream-check-target";
    return std::unexpected(std::move(error));
  }
  const bool is_address = SocketAddress::parse(typed).has_value();
  if (is_address) {
    if (auto checked = check_dialled("--upstream-check-target", typed, *target); !checked) return checked;
  }
  group.check_target =
      CheckTarget{.address = *target, .name = is_address ? std::string() : typed.substr(0, typed.rfind(':'))};
  return {};
}

}  // namespace limpid
