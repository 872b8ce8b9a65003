// Where operators come in: the control socket, the metrics port and the dashboard's, opened at the start, before privileges and descriptors are given to others.
#pragma once

#include <optional>
#include <string>

#include "base/log.h"
#include "control/control_socket.h"
#include "dashboard/admission.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "service/settings.h"

namespace limpid {

class Predecessor;

struct DashboardEntrance {
  UniqueFd listener;
  Admission::Options admission;
  std::string address;  ///< with the port that it really has
};

struct ControlDoors {
  std::optional<ControlSocket> socket;
  UniqueFd metrics;
  std::string metrics_address;  ///< with the port that it really has; empty: none
  std::optional<DashboardEntrance> dashboard;
};

/// `instance`: names the default socket; empty: there is none unless asked for. A default socket that cannot be had is a warning, one that was asked for
/// an error.
/// `predecessor`: those that it has open, where they are the same; nullptr: there is none.
[[nodiscard]] Result<ControlDoors> open_control_doors(const RelaySettings& settings, const std::string& instance,
                                                      const Logger& log, Predecessor* predecessor = nullptr);

}  // namespace limpid
