// TlsLegs::Account: what the TLS thread and a worker tell each other of one connection, besides what passes through the socket pair. AF_UNIX knows
// neither a reset nor what has become of bytes that were taken. Only for tls_legs.cc.
#pragma once

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>

#include "relay/tls_legs.h"

namespace limpid {

/// Locks are taken from a connection to what carries it, never the other way.
struct TlsLegs::Account {
  std::mutex mutex;
  int network = -1;         ///< while it is open
  std::size_t waiting = 0;  ///< bytes of the plain end that have not been given to `network` yet
  std::atomic<bool> broken{false};
  std::atomic<bool> given_up{false};  ///< the plain end is closed as if by a reset: what was written is no whole
  std::atomic<bool> all_said{
      false};  ///< the plain end is closed by a leg that has ended both ways: what it wrote is one
  std::shared_ptr<Account> carrier;  ///< of `network`, where that is a plain end itself: TLS within TLS

  /// Bytes that were written to `plain`, whose account this is, and not acknowledged.
  std::size_t unacknowledged(int plain) {
    const std::scoped_lock lock(mutex);
    if (network < 0) return 0;
    const auto queued_at = [](int fd) {
      int queued = 0;
      return ioctl(fd, SIOCOUTQ, &queued) == 0 ? static_cast<std::size_t>(queued) : std::size_t{0};
    };
    return queued_at(plain) + waiting + (carrier ? carrier->unacknowledged(network) : queued_at(network));
  }
  [[nodiscard]] std::optional<LegAddresses> addresses() {
    const std::scoped_lock lock(mutex);
    if (carrier) return carrier->addresses();
    return network >= 0 ? addresses_of_leg(network) : std::nullopt;
  }
  /// Nobody watches the time any more for a server that takes no more of what is left for it.
  void limit_farewell() {
    constexpr unsigned kPatienceMs = 30'000;
    const std::scoped_lock lock(mutex);
    if (carrier) return carrier->limit_farewell();
    if (network >= 0) setsockopt(network, IPPROTO_TCP, TCP_USER_TIMEOUT, &kPatienceMs, sizeof kPatienceMs);
  }
};

}  // namespace limpid
