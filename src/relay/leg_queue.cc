// tcp(7): SIOCOUTQ and SIOCINQ (FIONREAD).
#include "relay/leg_queue.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

namespace limpid {

int unacknowledged_bytes(const Leg& leg) noexcept {
  int bytes = 0;
  if (!leg.fd.valid() || ioctl(leg.fd.get(), SIOCOUTQ, &bytes) != 0) return 0;
  return bytes;
}

bool has_unread_bytes(const Leg& leg) noexcept {
  int waiting = 0;
  return ioctl(leg.fd.get(), FIONREAD, &waiting) == 0 && waiting > 0;
}

}  // namespace limpid
