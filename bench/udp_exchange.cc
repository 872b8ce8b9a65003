// Load for UDP: an echo server, and a client that keeps a number of datagrams under way over several sockets. What dnsperf does with its
// questions, with datagrams of any size and a server that costs next to nothing. Used by the benchmark only.
//   udp_exchange serve PORT
//   udp_exchange load ADDRESS PORT SECONDS SIZE_BYTES SOCKETS WINDOW     prints JSON
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

namespace {

constexpr std::size_t kBatch = 64;
constexpr std::size_t kMostBytes = 1472;  // one Ethernet frame
/// Datagrams that have not come back by then are lost; others take their place.
constexpr std::chrono::milliseconds kLost{200};

using Clock = std::chrono::steady_clock;

/// Room for a batch of datagrams, as recvmmsg(2) and sendmmsg(2) want it.
struct Batch {
  std::array<std::array<char, kMostBytes>, kBatch> bytes{};
  std::array<iovec, kBatch> parts{};
  std::array<sockaddr_in, kBatch> peers{};
  std::array<mmsghdr, kBatch> messages{};

  void prepare(std::size_t size, bool with_peers) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      parts[i] = {.iov_base = bytes[i].data(), .iov_len = size};
      messages[i] = {};
      messages[i].msg_hdr.msg_iov = &parts[i];
      messages[i].msg_hdr.msg_iovlen = 1;
      if (!with_peers) continue;
      messages[i].msg_hdr.msg_name = &peers[i];
      messages[i].msg_hdr.msg_namelen = sizeof(sockaddr_in);
    }
  }
};

int open_socket() {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  constexpr int kBufferBytes = 4 << 20;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &kBufferBytes, sizeof kBufferBytes);
  return fd;
}

int serve(std::uint16_t port) {
  const int fd = open_socket();
  sockaddr_in own{};
  own.sin_family = AF_INET;
  own.sin_port = htons(port);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0) return EXIT_FAILURE;
  static Batch batch;
  for (;;) {
    batch.prepare(kMostBytes, true);
    const int received = recvmmsg(fd, batch.messages.data(), kBatch, MSG_WAITFORONE, nullptr);
    if (received <= 0) continue;
    for (std::size_t i = 0; i < static_cast<std::size_t>(received); ++i)
      batch.parts[i].iov_len = batch.messages[i].msg_len;
    sendmmsg(fd, batch.messages.data(), static_cast<unsigned>(received), 0);
  }
}

struct Caller {
  int fd = -1;
  std::size_t under_way = 0;
  Clock::time_point heard;
};

int load(const sockaddr_in& server, std::chrono::seconds duration, std::size_t size, std::size_t sockets,
         std::size_t window) {
  std::vector<Caller> callers(sockets);
  std::vector<pollfd> polled;
  for (Caller& caller : callers) {
    caller.fd = open_socket();
    if (connect(caller.fd, reinterpret_cast<const sockaddr*>(&server), sizeof server) != 0) return EXIT_FAILURE;
    caller.heard = Clock::now();
    polled.push_back({.fd = caller.fd, .events = POLLIN, .revents = 0});
  }
  static Batch batch;
  std::uint64_t answers = 0;
  std::uint64_t lost = 0;
  std::uint64_t wrong = 0;
  const auto begin = Clock::now();
  auto now = begin;
  while ((now = Clock::now()) - begin < duration) {
    for (std::size_t at = 0; at < callers.size(); ++at) {
      Caller& caller = callers[at];
      if ((polled[at].revents & POLLIN) != 0) {
        batch.prepare(kMostBytes, false);
        const int received = recvmmsg(caller.fd, batch.messages.data(), kBatch, MSG_DONTWAIT, nullptr);
        for (int i = 0; i < received; ++i) {
          if (batch.messages[static_cast<std::size_t>(i)].msg_len != size) ++wrong;
        }
        if (received > 0) {
          answers += static_cast<std::uint64_t>(received);
          caller.under_way -= std::min(caller.under_way, static_cast<std::size_t>(received));
          caller.heard = now;
        }
      }
      if (caller.under_way > 0 && now - caller.heard > kLost) {
        lost += caller.under_way;
        caller.under_way = 0;
        caller.heard = now;
      }
      const std::size_t missing = std::min(window - caller.under_way, kBatch);
      if (missing == 0) continue;
      batch.prepare(size, false);
      const int sent = sendmmsg(caller.fd, batch.messages.data(), static_cast<unsigned>(missing), MSG_DONTWAIT);
      if (sent > 0) caller.under_way += static_cast<std::size_t>(sent);
    }
    poll(polled.data(), polled.size(), 10);
  }
  const double seconds = std::chrono::duration<double>(now - begin).count();
  std::printf(R"({"answers_per_second": %.1f, "lost": %llu, "wrong": %llu})"
              "\n",
              static_cast<double>(answers) / seconds, static_cast<unsigned long long>(lost),
              static_cast<unsigned long long>(wrong));
  return EXIT_SUCCESS;
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 3 && std::string_view(arguments[1]) == "serve")
    return serve(static_cast<std::uint16_t>(std::atoi(arguments[2])));
  if (count != 8 || std::string_view(arguments[1]) != "load") return 2;
  sockaddr_in server{};
  server.sin_family = AF_INET;
  server.sin_port = htons(static_cast<std::uint16_t>(std::atoi(arguments[3])));
  const auto size = static_cast<std::size_t>(std::atoi(arguments[5]));
  const auto window = static_cast<std::size_t>(std::atoi(arguments[7]));
  if (inet_pton(AF_INET, arguments[2], &server.sin_addr) != 1 || size > kMostBytes || window == 0) return 2;
  return load(server, std::chrono::seconds(std::atoi(arguments[4])), size,
              static_cast<std::size_t>(std::atoi(arguments[6])), window);
}
