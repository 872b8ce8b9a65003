// A connected datagram socket: poll(2) tells of room in journald's queue only through one. See journal.h.
#include "service/journal.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/ascii.h"

namespace limpid {
namespace {

/// A value with a line break goes with its length in front: 64 bits, the lowest byte first.
void append(std::string& entry, std::string_view key, std::string_view value) {
  entry += key;
  if (!value.contains('\n')) {
    entry += '=';
  } else {
    entry += '\n';
    for (unsigned shift = 0; shift < 64; shift += 8) entry += static_cast<char>((value.size() >> shift) & 0xffU);
  }
  entry += value;
  entry += '\n';
}

}  // namespace

std::string format_journal_entry(std::string_view message, std::span<const Field> fields) {
  std::string entry;
  append(entry, "MESSAGE", message);
  append(entry, "PRIORITY", "6");
  append(entry, "SYSLOG_IDENTIFIER", "limpid");
  for (const Field& field : fields) {
    std::string key = "LIMPID_";
    for (const char c : field.key) key += ascii_upper(c);
    append(entry, key, field.value);
  }
  return entry;
}

Result<Journal> Journal::open(std::string_view path) {
  if (path.size() >= sizeof(sockaddr_un::sun_path)) return system_error(ENAMETOOLONG, "write to the journal", path);
  UniqueFd fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return system_error(errno, "write to the journal", path);
  return Journal(std::move(fd), std::string(path));
}

bool Journal::write(std::string_view entry, int patience_ms) const {
  bool connected_anew = false;
  for (bool waited = false;;) {
    if (send(fd_.get(), entry.data(), entry.size(), MSG_NOSIGNAL) >= 0) return true;
    if (errno == EINTR) continue;
    if (errno == EAGAIN) {
      if (std::exchange(waited, true) || patience_ms == 0) return false;
      pollfd room{.fd = fd_.get(), .events = POLLOUT, .revents = 0};
      poll(&room, 1, patience_ms);
    } else if (std::exchange(connected_anew, true) || !connect()) {  // journald's next socket has the same address
      return false;
    }
  }
}

bool Journal::connect() const {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::ranges::copy(path_, static_cast<char*>(address.sun_path));
  const auto* native = reinterpret_cast<const sockaddr*>(&address);  // NOLINT(*-reinterpret-cast)
  return ::connect(fd_.get(), native, sizeof address) == 0;
}

}  // namespace limpid
