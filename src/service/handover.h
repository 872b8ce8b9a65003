// The handover to a successor (`limpid upgrade`, SIGUSR2): this process's side of it. Starts the program anew, gives it listeners and flows, and lets go of them when it
// has them all; until then, everything goes on here as if nothing had happened, whatever the successor does or does not do.
//
// Theory of operation. The successor first makes everything that it can make beside us: it reads its configuration, looks at the kernel, opens what it needs. Only then
// do our workers stand still (relay/flow_freeze.h), for the time that it takes to send what they have. It says that it has everything; we say go, and from that moment
// on the flows are its. Between the two, each side knows of the other's end by the channel's: if we die before `go`, it has everything and goes on by itself; if it dies before,
// we do. There is no moment in which both would touch a flow.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "base/log.h"
#include "intercept/plan.h"
#include "limpid/error.h"
#include "relay/relay.h"
#include "service/keeper.h"
#include "service/notify_socket.h"

namespace limpid {

/// Where operators come in; borrowed. Descriptors are negative where there is none.
struct OperatorDoors {
  std::string control_path;
  std::string metrics_address;
  std::string dashboard_address;
  int control = -1;
  int metrics = -1;
  int dashboard = -1;
};

/// What is handed over, and whom to ask for it. All outlive the handover.
struct HandoverParts {
  const std::string& program;  ///< the file that is started
  RulesKeeper& keeper;         ///< who starts it
  Relay& relay;
  const Plan& plan;
  const Logger& log;
  const NotifySocket& supervisor;
  std::uint64_t cut_through = 0;  ///< CutThroughOffload::self(); 0: none
  int signal_fd = -1;
  int instance_lock = -1;
  OperatorDoors doors{};
};

struct HandoverOutcome {
  std::optional<Error> failure{};  ///< nothing has changed
  int signal = 0;                  ///< that came meanwhile, and is to be obeyed: the handover was given up for it
  pid_t pid = 0;                   ///< the successor's
  std::size_t flows = 0;           ///< that it has
  std::size_t sessions = 0;
  std::size_t stays = 0;               ///< flows that could not be moved: they are to be served to their end here
  std::chrono::microseconds pause{0};  ///< in which no byte was moved
};

/// How long a successor may take until it is ready, unless told.
inline constexpr std::chrono::milliseconds kSuccessorPatience{45'000};

/// By the main thread. On success the workers drain what stays, and everything else of the instance is the successor's: plan, sockets' files, lock.
[[nodiscard]] HandoverOutcome hand_over(const HandoverParts& parts, std::chrono::milliseconds patience);

}  // namespace limpid
