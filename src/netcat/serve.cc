// Accepts, starts the program of each conversation, and forgets conversations that are over.
//
// A UDP conversation is all datagrams from one client to one original destination. It has a socket of its own, bound to
// the original destination and connected to the client: answers leave from the address that was dialled, and the kernel
// hands it the client's later datagrams by itself, diverted ones too, because nf_tproxy_get_sock_v4
// (net/ipv4/netfilter/ nf_tproxy_ipv4.c) prefers a connected socket to the listener. What arrived at the listener in
// between is passed on.
#include "netcat/serve.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

#include "limpid/datagram.h"
#include "limpid/transparent.h"
#include "net/port_owner.h"
#include "netcat/datagram_hub.h"
#include "netcat/program.h"
#include "netcat/session.h"

namespace limpid {
namespace {

/// At one time; each has a program, two pipes and a socket.
constexpr std::size_t kMostConversations = 256;

struct Conversation {
  SocketAddress client;
  SocketAddress dialled;
  std::optional<Program> program;
  std::unique_ptr<Session> session;
};

class Server {
 public:
  Server(const NetcatOptions& options, NetcatListeners listeners)
      : options_(options), listeners_(std::move(listeners.sockets)) {}

  Result<Ending> run() {
    while (!listeners_.empty() || !conversations_.empty()) {
      std::vector<pollfd> others{pollfd{options_.stop_fd, POLLIN, 0}};
      for (const UniqueFd& listener : listeners_) others.push_back({accepts() ? listener.get() : -1, POLLIN, 0});
      std::vector<Session*> sessions;
      sessions.reserve(conversations_.size());
      for (const Conversation& conversation : conversations_) sessions.push_back(conversation.session.get());
      if (auto advanced = advance_sessions(sessions, others); !advanced) return std::unexpected(advanced.error());
      if (others.front().revents != 0) return Ending::stopped;
      if (auto swept = sweep(); !swept) return std::unexpected(swept.error());
      for (std::size_t i = 1; i < others.size(); ++i) {
        if (others[i].revents == 0 || !accepts() || i > listeners_.size()) continue;
        if (auto taken = take(listeners_[i - 1].get()); !taken) return std::unexpected(taken.error());
      }
    }
    return Ending::finished;
  }

 private:
  [[nodiscard]] bool accepts() const {
    // Standard input and output serve one conversation at a time.
    return conversations_.size() < (options_.program.empty() ? 1 : kMostConversations);
  }

  Status take(int listener) {
    return options_.transport == Transport::tcp ? take_connection(listener) : take_datagram(listener);
  }

  Status take_connection(int listener) {
    UniqueFd network(accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!network.valid()) {
      const bool nobody = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED;
      return nobody ? Status() : system_error(errno, "accept", "a connection");
    }
    const auto client = peer_address(network.get());
    if (!client) return {};  // it has gone already
    const auto dialled = original_destination(network.get());
    if (!dialled) return std::unexpected(dialled.error());
    options_.narrate(fmt::format("connection from {} to {}", client->to_string(), dialled->to_string()));
    if (!options_.keep_listening) listeners_.clear();
    return begin({.client = *client, .dialled = *dialled, .program = {}, .session = {}}, std::move(network));
  }

  Status take_datagram(int listener) {
    // One at a time: what there is no room for waits in the kernel.
    const auto arrived = batch_.receive(listener, 1);
    if (arrived.empty() || !arrived.front().original_destination) return {};
    const ReceivedDatagram& first = arrived.front();
    if (Conversation* known = find(first)) {
      known->session->put(first.payload);
      return {};
    }
    const SocketAddress& dialled = *first.original_destination;
    options_.narrate(fmt::format("datagram from {} to {}", first.peer.to_string(), dialled.to_string()));
    auto network = open_caller(Transport::udp, dialled, first.peer, Transparency::when_foreign);
    if (!network) return std::unexpected(network.error());
    auto begun = begin({.client = first.peer, .dialled = dialled, .program = {}, .session = {}}, std::move(*network));
    if (!begun) return begun;
    conversations_.back().session->put(first.payload);
    if (!options_.keep_listening) close_after(listener);
    return {};
  }

  /// What else the only client has sent before it had its own socket; others are too late.
  void close_after(int listener) {
    for (auto rest = batch_.receive(listener); !rest.empty(); rest = batch_.receive(listener)) {
      for (const ReceivedDatagram& datagram : rest) {
        if (Conversation* known = find(datagram)) known->session->put(datagram.payload);
      }
    }
    listeners_.clear();
  }

  Conversation* find(const ReceivedDatagram& datagram) {
    const auto found = std::ranges::find_if(conversations_, [&](const Conversation& c) {
      return c.client == datagram.peer && c.dialled == datagram.original_destination;
    });
    return found == conversations_.end() ? nullptr : &*found;
  }

  Status begin(Conversation conversation, UniqueFd network) {
    LocalSide side = LocalSide::standard(/*closes_output=*/!options_.keep_listening);
    if (!options_.program.empty()) {
      auto started =
          Program::start(options_.program, {{"LIMPID_CLIENT", conversation.client.to_string()},
                                            {"LIMPID_ORIGINAL_DESTINATION", conversation.dialled.to_string()}});
      if (!started) return std::unexpected(started.error());
      conversation.program = started->program;
      side = std::move(started->side);
    }
    conversation.session =
        std::make_unique<Session>(options_.transport, std::move(network), std::move(side), options_.limits);
    conversations_.push_back(std::move(conversation));
    return {};
  }

  /// Takes leave of those that are over. Without keep_listening, a failure of the only one is ours.
  Status sweep() {
    for (std::size_t i = 0; i < conversations_.size();) {
      Conversation& conversation = conversations_[i];
      if (!conversation.session->finished()) {
        ++i;
        continue;
      }
      auto outcome = end(conversation);
      conversations_.erase(conversations_.begin() + static_cast<std::ptrdiff_t>(i));
      if (outcome) continue;
      if (!options_.keep_listening) return outcome;
      options_.narrate(outcome.error().message());
    }
    std::erase_if(leaving_, [](Program& program) { return program.poll().has_value(); });
    return {};
  }

  Status end(Conversation& conversation) {
    Status outcome = conversation.session->outcome();
    conversation.session.reset();  // its pipes too: the program sees their ends
    if (!outcome && outcome.error().operation == "talk to") {
      Error error = outcome.error();
      error.object = conversation.client.to_string();
      outcome = std::unexpected(std::move(error));
    }
    if (!conversation.program) return outcome;
    if (options_.keep_listening) {
      leaving_.push_back(*conversation.program);
      return outcome;
    }
    const int status = conversation.program->wait();
    if (!outcome || status == 0) return outcome;
    return failure("run", options_.program.front(), fmt::format("it ended with status {}", status));
  }

  const NetcatOptions& options_;
  std::vector<UniqueFd> listeners_;
  std::vector<Conversation> conversations_;
  std::vector<Program> leaving_;  ///< their conversations are over; still to be waited for
  DatagramBatch batch_;
};

/// `flag`: the one because of which it may have to be transparent.
Result<UniqueFd> open_one(const NetcatOptions& options, SocketAddress local, std::string_view flag) {
  auto opened =
      open_listener(options.transport, local, options.transparent ? Transparency::always : Transparency::when_foreign);
  if (!opened && options.transparent && opened.error().code == EPERM) {
    opened.error().remedy = fmt::format("{} needs CAP_NET_ADMIN: run it as root", flag);
  }
  if (opened || opened.error().code != EADDRINUSE) return opened;
  return port_in_use(options.transport, local.port, "give another PORT");
}

}  // namespace

Result<NetcatListeners> open_netcat_listeners(const NetcatOptions& options, bool on_loopback) {
  std::vector<SocketAddress> places;
  if (options.source) {
    places.push_back(*options.source);
  } else {
    for (const Family family : {Family::ipv6, Family::ipv4}) {
      if (options.family && *options.family != family) continue;
      places.push_back({.address = on_loopback ? IpAddress::loopback(family) : IpAddress::any(family), .port = {}});
    }
  }
  NetcatListeners listeners{.port = options.local_port, .sockets = {}};
  std::vector<std::string> places_taken;
  for (SocketAddress place : places) {
    place.port = listeners.port;
    auto opened = open_one(options, place, on_loopback ? "--setup" : "--transparent");
    if (!opened) {
      // IPv6 is off on this host: not an error unless it was asked for.
      const bool lacks_family = opened.error().code == EAFNOSUPPORT || opened.error().code == EADDRNOTAVAIL;
      if (lacks_family && places.size() == 2 && place.family() == Family::ipv6) continue;
      return std::unexpected(opened.error());
    }
    const auto bound = original_destination(opened->get());  // of a listener: where it listens
    if (!bound) return std::unexpected(bound.error());
    listeners.port = bound->port;
    listeners.sockets.push_back(std::move(*opened));
    places_taken.push_back(bound->to_string());
  }
  // Said when all of them listen: a script that waits for it may go on.
  options.narrate(fmt::format("listening on {} ({}{})", fmt::join(places_taken, " and "), to_string(options.transport),
                              options.transparent ? ", transparent" : ""));
  return listeners;
}

Result<Ending> serve(const NetcatOptions& options, NetcatListeners listeners) {
  if (options.transport == Transport::udp && options.keep_listening && options.program.empty()) {
    return serve_datagrams(options, std::move(listeners));
  }
  return Server(options, std::move(listeners)).run();
}

}  // namespace limpid
