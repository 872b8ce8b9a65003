// What every verb that speaks to a running instance has: which one it is, and how it is asked.
#pragma once

#include <chrono>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "limpid/error.h"

namespace CLI {
class App;
}

namespace limpid {

struct ControlFlags {
  std::string name = "limpid";
  std::string path;  ///< of the socket; empty: the default one of that name
  bool json = false;
};

/// --name, --control and, unless nothing is printed, --json.
void add_control_flags(CLI::App& verb, ControlFlags& flags, bool prints = true);

/// Where its socket is.
[[nodiscard]] std::string control_path(const ControlFlags& flags);

/// An answer that makes sense; its status says how it went.
struct ControlAnswer {
  unsigned status = 0;
  std::string body;  ///< JSON
  int peer = 0;      ///< as in HttpAnswer
  [[nodiscard]] bool ok() const noexcept { return status >= 200 && status < 300; }
};

[[nodiscard]] Result<ControlAnswer> ask_instance(const ControlFlags& flags, std::string_view method,
                                                 std::string_view target, std::string_view body = {},
                                                 std::chrono::seconds patience = std::chrono::seconds{30});
/// The same, where anything but success is an error.
[[nodiscard]] Result<nlohmann::ordered_json> fetch(const ControlFlags& flags, std::string_view method,
                                                   std::string_view target, std::string_view body = {});
/// What the instance said is wrong, as an error of ours: 400 is a usage error.
[[nodiscard]] Error refusal(const ControlAnswer& answer, std::string_view operation, const ControlFlags& flags);

/// "1.5 MiB", "980 B".
[[nodiscard]] std::string in_bytes(std::uint64_t bytes);
/// "250ms", "12s", "3m 5s", "2h 10m", "4d 3h".
[[nodiscard]] std::string in_time(std::uint64_t milliseconds);

}  // namespace limpid
