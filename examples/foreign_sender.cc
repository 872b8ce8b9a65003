// Sends each line of standard input as a datagram from an address which this host does not have: foreign_sender SOURCE
// TARGET, each ADDRESS:PORT, IPv6 [ADDRESS]:PORT. Root; no rules are needed, because no answer is waited for. The
// document of the kernel calls it "to send datagrams from non-local IP addresses".
#include <fcntl.h>

#include <cstdio>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "limpid/datagram.h"

int main(int argc, char** argv) {
  const auto source = limpid::SocketAddress::parse(argc > 1 ? argv[1] : "");
  const auto target = limpid::SocketAddress::parse(argc > 2 ? argv[2] : "");
  if (!source || !target) return std::fprintf(stderr, "usage: foreign_sender SOURCE TARGET\n"), 2;
  const auto socket = limpid::open_datagram_socket({.source = *source, .peer = *target});
  if (!socket) return std::fprintf(stderr, "%s\n", socket.error().message().c_str()), 1;
  fcntl(socket->get(), F_SETFL, 0);  // blocking: many lines wait for room

  std::vector<std::string> lines;
  for (std::string line; std::getline(std::cin, line);) lines.push_back(std::move(line));
  std::vector<std::span<const std::byte>> payloads;
  payloads.reserve(lines.size());
  for (const auto& line : lines) payloads.push_back(std::as_bytes(std::span(line)));
  const auto sent = limpid::send_datagrams(socket->get(), std::nullopt, {.ttl = 64, .traffic_class = 0}, payloads);
  if (sent < payloads.size()) return std::perror("send"), 1;
  std::printf("%zu datagrams from %s to %s\n", sent, source->to_string().c_str(), target->to_string().c_str());
}
