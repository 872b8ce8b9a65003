// A TCP client that calls from an address which this host does not have: foreign_client SOURCE TARGET. TARGET is ADDRESS:PORT,
// IPv6 [ADDRESS]:PORT, and so is SOURCE, or ADDRESS alone: the kernel chooses a port. Says "hello", prints the answer. Root; the answer comes if
// packets for SOURCE reach this host and rules like those of `limpid rules apply` divert them.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string_view>

#include "limpid/transparent.h"

int main(int argc, char** argv) {
  auto source = limpid::SocketAddress::parse(argc > 1 ? argv[1] : "");
  if (const auto address = limpid::IpAddress::parse(argc > 1 ? argv[1] : ""))
    source = {.address = *address, .port = {}};
  const auto target = limpid::SocketAddress::parse(argc > 2 ? argv[2] : "");
  if (!source || !target) return std::fprintf(stderr, "usage: foreign_client SOURCE TARGET\n"), 2;
  const auto connection = limpid::connect_transparent(*target, {.source = *source});
  if (!connection) return std::fprintf(stderr, "%s\n", connection.error().message().c_str()), 1;

  const int fd = connection->get();
  fcntl(fd, F_SETFL, 0);  // blocking: send(2) waits for the connection
  const std::string_view question = "hello\n";
  if (send(fd, question.data(), question.size(), MSG_NOSIGNAL) < 0) return std::perror("connect"), 1;
  const auto local = limpid::original_destination(fd);  // of a client: its own address, getsockname(2)
  if (local) std::fprintf(stderr, "calling from %s\n", local->to_string().c_str());
  shutdown(fd, SHUT_WR);
  std::array<char, 4096> buffer;
  ssize_t count = 0;
  while ((count = recv(fd, buffer.data(), buffer.size(), 0)) > 0) {
    if (write(STDOUT_FILENO, buffer.data(), static_cast<std::size_t>(count)) != count) return 1;
  }
  return count < 0 ? (std::perror("receive"), 1) : 0;
}
