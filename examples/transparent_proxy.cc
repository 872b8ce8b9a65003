// A transparent proxy in under 60 lines: says who dialled whom, and relays as the client. Two threads a connection keep
// it short; src/relay does it in earnest. As root on a router: transparent_proxy PORTS. It ends with ^C.
#include <fcntl.h>
#include <sys/socket.h>

#include <csignal>
#include <cstdio>
#include <thread>

#include "limpid/interception.h"
#include "limpid/transparent.h"

void copy(int source, int sink) {
  std::string bytes(65536, '\0');
  for (ssize_t got = 0; (got = recv(source, bytes.data(), bytes.size(), 0)) > 0;) {
    if (send(sink, bytes.data(), static_cast<std::size_t>(got), MSG_NOSIGNAL) != got) break;
  }
  shutdown(sink, SHUT_WR);  // the end is passed on; the other direction may live on
}

void relay(const limpid::UniqueFd& client, std::uint32_t bypass_mark) {
  const auto caller = limpid::peer_address(client.get());
  const auto dialled = limpid::original_destination(client.get());
  // A loopback address was not intercepted: somebody on this host dialled our listener, and we would dial ourselves.
  if (!caller || !dialled || dialled->address.is_loopback()) return;
  std::fprintf(stderr, "%s dialled %s\n", caller->to_string().c_str(), dialled->to_string().c_str());
  const limpid::SocketAddress source{.address = caller->address, .port = {}, .scope_id = caller->scope_id};
  const auto target = limpid::connect_transparent(*dialled, {.source = source, .mark = bypass_mark});
  if (!target) return (void)std::fprintf(stderr, "%s\n", target.error().message().c_str());
  fcntl(target->get(), F_SETFL, 0);  // blocking: the first recv(2) and send(2) wait until the target has answered
  const std::jthread up(copy, client.get(), target->get());
  copy(target->get(), client.get());
}

int main(int argc, char** argv) {
  sigset_t endings;  // blocked in every thread: main() waits for them, and its return undoes the interception
  sigemptyset(&endings);
  for (const int signal : {SIGINT, SIGTERM}) sigaddset(&endings, signal);
  pthread_sigmask(SIG_BLOCK, &endings, nullptr);
  limpid::InterceptionOptions options;
  options.scope.tcp = limpid::PortSet::parse(argc > 1 ? argv[1] : "80").value_or(limpid::PortSet());
  const auto ipv4 = limpid::listen_transparent({limpid::IpAddress::loopback(limpid::Family::ipv4), {}});
  if (!ipv4) return std::fprintf(stderr, "%s\n", ipv4.error().message().c_str()), 1;
  options.listener = limpid::original_destination(ipv4->get())->port;  // the kernel chose it
  const auto ipv6 = limpid::listen_transparent({limpid::IpAddress::loopback(limpid::Family::ipv6), options.listener});
  options.scope.ipv6 = ipv6.has_value();
  const auto interception = limpid::Interception::install(options);
  if (!interception) return std::fprintf(stderr, "%s\n", interception.error().message().c_str()), 1;
  const auto serve = [bypass_mark = interception->bypass_mark()](int listener) {
    fcntl(listener, F_SETFL, 0);
    while (true) {
      limpid::UniqueFd client(accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
      if (client.valid()) std::thread(relay, std::move(client), bypass_mark).detach();
    }
  };
  std::thread(serve, ipv4->get()).detach();
  if (ipv6) std::thread(serve, ipv6->get()).detach();
  return sigwait(&endings, &argc);
}
