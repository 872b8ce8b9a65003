// What a relay that listens like any other program needs beside limpid/transparent.h: an ordinary listener, and the first bytes of
// TCP Fast Open, and how a connection ends. Defined in transparent.cc, whose options they share.
#pragma once

#include <cstddef>
#include <span>

#include "limpid/transparent.h"

namespace limpid {

/// As listen_transparent(), without IP_TRANSPARENT: needs no privileges.
[[nodiscard]] Result<UniqueFd> listen_ordinary(const SocketAddress& local, const ListenOptions& options = {});

/// Sends the SYN that ConnectOptions::fast_open holds back, with the beginning of `bytes` in it; nothing happens to a connection
/// whose SYN is under way. Returns how many bytes the kernel has taken and will deliver once the connection is made. An error is
/// the connection's own, such as a refusal that came at once; this call has consumed it, so nobody hears of it again.
[[nodiscard]] Result<std::size_t> send_with_syn(int connecting, std::span<const std::byte> bytes);

/// From now on closing the socket resets its connection, also when it is the kernel that closes it because the process was killed: so what was cut short never
/// looks whole. What a listener accepts inherits it. SO_LINGER, socket(7).
void reset_at_close(int fd) noexcept;
/// The opposite: closing it says what is to be said, in the background, and then goodbye.
void finish_at_close(int fd) noexcept;

}  // namespace limpid
