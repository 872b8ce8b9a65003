// What a running instance has answered at one moment, as values: the control API's JSON without the JSON. Made for the live view by the
// command line; everything in it is ASCII and safe to show.
#pragma once

#include <chrono>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "limpid/error.h"

namespace limpid::top {

struct FlowReading {
  std::string id;
  std::string protocol;
  std::string state;
  std::string client;       ///< address and port
  std::string destination;  ///< that the client dialled
  std::string target;       ///< that was dialled for it; empty: none yet
  std::string source;
  std::string app;
  std::string name;         ///< empty: none, or nobody looked
  std::string name_source;  ///< "first-bytes" or "dns-hint"; empty: as `name`
  std::string upstream;     ///< empty: none
  std::optional<std::uint64_t> rule;
  bool cut_through = false;
  std::uint64_t bytes_up = 0;
  std::uint64_t bytes_down = 0;
  std::uint64_t age_ms = 0;
  std::uint64_t idle_ms = 0;
  [[nodiscard]] bool has_hint() const noexcept { return name_source == "dns-hint"; }
};

struct Reading {
  std::chrono::steady_clock::time_point at;
  std::string instance;
  std::string state;  ///< serving, draining
  std::string plan;   ///< installed, disturbed, …; empty for an instance without
  std::uint64_t uptime_ms = 0;
  /// Open now.
  std::uint64_t tcp = 0;
  std::uint64_t udp = 0;
  std::uint64_t tcp_cut = 0;
  std::uint64_t udp_cut = 0;
  /// Since the instance began.
  std::uint64_t connections = 0;
  std::uint64_t sessions = 0;
  std::uint64_t refusals = 0;
  std::uint64_t bytes_up = 0;  ///< through the relay; what is forwarded past it stands with the flows
  std::uint64_t bytes_down = 0;
  std::vector<FlowReading> flows;  ///< as many as were asked for
  bool all_flows = true;           ///< false: there are more that match
};

/// The answers to /v1/status, /v1/counters and /v1/flows.
[[nodiscard]] Result<Reading> read_answers(const nlohmann::ordered_json& status, const nlohmann::ordered_json& counters,
                                           const nlohmann::ordered_json& flows,
                                           std::chrono::steady_clock::time_point at);

/// One cell of a terminal for each byte: others' text with a question mark for whatever acts, and for whatever is not ASCII, whose width only
/// the terminal knows. Names of hosts are ASCII anyway (RFC 5890: A-labels).
[[nodiscard]] std::string in_cells(std::string_view text);

}  // namespace limpid::top
