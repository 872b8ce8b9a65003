// Answers every datagram for somebody else as that somebody, with what it said: a transparent UDP proxy without its
// target legs, in under 60 lines. As root on a router: datagram_echo PORTS. It ends with ^C.
#include <poll.h>

#include <csignal>
#include <cstdio>
#include <thread>
#include <utility>
#include <vector>

#include "limpid/datagram.h"
#include "limpid/interception.h"
#include "limpid/transparent.h"

void answer(int listener, limpid::RawSender sender) {
  limpid::DatagramBatch batch;
  std::vector<limpid::SpoofedDatagram> answers;
  for (pollfd waiting{listener, POLLIN, 0}; poll(&waiting, 1, -1) > 0;) {
    answers.clear();
    for (const auto& datagram : batch.receive(listener)) {
      // A loopback address was not intercepted: somebody on this host wrote to our listener itself.
      const auto& dialled = datagram.original_destination;
      if (!dialled || dialled->address.is_loopback()) continue;
      std::fprintf(stderr, "%s asked %s, TTL %d, TOS %d, %zu bytes\n", datagram.peer.to_string().c_str(),
                   dialled->to_string().c_str(), datagram.fields.ttl, datagram.fields.traffic_class,
                   datagram.payload.size());
      answers.push_back({.from = *dialled, .to = datagram.peer, .payload = datagram.payload});
    }
    if (sender.send(answers) < answers.size()) std::perror("answer");
  }
}

int main(int argc, char** argv) {
  sigset_t endings;  // blocked in every thread: main() waits for them, and its return undoes the interception
  sigemptyset(&endings);
  for (const int signal : {SIGINT, SIGTERM}) sigaddset(&endings, signal);
  pthread_sigmask(SIG_BLOCK, &endings, nullptr);
  limpid::InterceptionOptions options;
  options.scope.udp = limpid::PortSet::parse(argc > 1 ? argv[1] : "7").value_or(limpid::PortSet());
  std::vector<std::pair<limpid::Family, limpid::UniqueFd>> listeners;
  for (const auto family : {limpid::Family::ipv4, limpid::Family::ipv6}) {
    auto listener = limpid::listen_datagrams({limpid::IpAddress::loopback(family), options.listener});
    if (!listener) return std::fprintf(stderr, "%s\n", listener.error().message().c_str()), 1;
    options.listener = limpid::original_destination(listener->get())->port;  // the kernel chose it for the first
    listeners.emplace_back(family, std::move(*listener));
  }
  const auto interception = limpid::Interception::install(options);
  if (!interception) return std::fprintf(stderr, "%s\n", interception.error().message().c_str()), 1;
  for (const auto& [family, listener] : listeners) {
    auto sender = limpid::RawSender::open(family, interception->bypass_mark());
    if (!sender) return std::fprintf(stderr, "%s\n", sender.error().message().c_str()), 1;
    std::thread(answer, listener.get(), std::move(*sender)).detach();
  }
  return sigwait(&endings, &argc);
}
