// The flags that choose among flows, the same for `limpid flows` and `limpid kill`, and how pages of them are fetched.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "cli/control_flags.h"
#include "limpid/error.h"

namespace CLI {
class App;
}

namespace limpid {

/// As typed; empty: not given.
struct FlowFlags {
  std::string client;
  std::string target;
  std::string original_destination;
  std::string name;
  std::string rule;
  std::string upstream;
  std::string protocol;
  std::string state;
  std::string cut_through;
  [[nodiscard]] bool empty() const noexcept;
};

void add_flow_flags(CLI::App& verb, FlowFlags& flags);
/// "client=192.0.2.2&rule=3", encoded; empty where nothing was given.
[[nodiscard]] std::string as_arguments(const FlowFlags& flags);

/// Every flow that matches, page by page, in the order of names. `use` returns false when it has seen enough.
[[nodiscard]] Status for_each_flow(const ControlFlags& instance, const FlowFlags& flags,
                                   const std::function<bool(const nlohmann::ordered_json&)>& use);

/// A line of the table, and its head.
[[nodiscard]] std::string flow_table_head();
[[nodiscard]] std::string flow_table_line(const nlohmann::ordered_json& flow);

}  // namespace limpid
