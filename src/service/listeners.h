// Opens the listeners of all workers on one port, and says who is in the way when that port is busy.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/transparent.h"
#include "limpid/unique_fd.h"
#include "relay/worker.h"

namespace limpid {

struct ListenerRequest {
  Port port;  ///< 0: chosen
  bool ipv4 = true;
  bool ipv6 = true;
  bool tcp = true;
  bool udp = false;
  unsigned workers = 1;
  bool spread_by_client = false;  ///< datagrams (net/reuseport.h)
  ListenOptions socket;           ///< reuse_port is set here as the number of workers demands
  /// Where to listen, each with `port`. Empty: the loopback addresses of the families above.
  std::vector<SocketAddress> addresses{};
  bool transparent = true;  ///< IP_TRANSPARENT; UDP listeners always have it
  std::string busy_remedy = "give another --listen-port, or none to have one chosen";
  std::string absent_remedy{};  ///< of an address that this host does not have
};

struct Listeners {
  Port port;
  std::vector<SocketAddress> addresses;  ///< as bound
  std::vector<WorkerListeners> per_worker;
};

/// All of them or none. Bound to loopback addresses unless told otherwise: nftables' `tproxy to` reaches them there, the network
/// does not.
[[nodiscard]] Result<Listeners> open_listeners(const ListenerRequest& request);

/// How many workers there are: `wanted`, or one for each of `cpus` where it is 0. Where the backend cannot hand packets to one of several listeners,
/// one, or an error for those who asked for more.
[[nodiscard]] Result<unsigned> count_workers(unsigned wanted, unsigned cpus, bool takes_several);

/// A port that nobody listens on at this moment, for showing what a start would look like. Needs no privileges.
[[nodiscard]] Result<Port> find_free_port();

}  // namespace limpid
