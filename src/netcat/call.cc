// Connects with a time limit, in the order of the addresses that the name has, and hands over to a Session.
#include "netcat/call.h"

#include <fmt/format.h>
#include <poll.h>

#include <cerrno>

#include "limpid/transparent.h"
#include "net/resolve.h"
#include "netcat/program.h"
#include "netcat/session.h"

namespace limpid {
namespace {

using Clock = Session::Clock;

struct Connected {
  UniqueFd network;
  SocketAddress target;
};

std::optional<SocketAddress> own_address(const NetcatOptions& options, Family family) {
  if (!options.source && options.local_port.value == 0) return std::nullopt;
  SocketAddress own = options.source.value_or(SocketAddress{.address = IpAddress::any(family), .port = {}});
  own.port = options.local_port;
  return own;
}

/// Waits for the end of the handshake. Empty: told to stop.
Result<std::optional<Connected>> connect_to(const NetcatOptions& options, const SocketAddress& target) {
  auto network = open_caller(options.transport, own_address(options, target.family()), target,
                             options.transparent ? Transparency::always : Transparency::when_foreign);
  if (!network) return std::unexpected(network.error());
  std::array<pollfd, 2> polls{pollfd{network->get(), POLLOUT, 0}, pollfd{options.stop_fd, POLLIN, 0}};
  const int patience = options.connect_timeout ? static_cast<int>(options.connect_timeout->count()) : -1;
  int ready = poll(polls.data(), polls.size(), patience);
  while (ready < 0 && errno == EINTR) ready = poll(polls.data(), polls.size(), patience);
  if (ready < 0) return system_error(errno, "poll", "");
  if (polls[1].revents != 0) return std::nullopt;
  if (ready == 0) {
    return failure("connect to", target.to_string(),
                   fmt::format("no answer within {} ms", options.connect_timeout->count()));
  }
  if (const int code = connection_outcome(network->get()); code != 0) {
    return system_error(code, "connect to", target.to_string());
  }
  return Connected{.network = std::move(*network), .target = target};
}

/// The first address that answers; otherwise the error of the last.
Result<std::optional<Connected>> connect_to_any(const NetcatOptions& options, Port port) {
  const auto addresses = resolve_host(options.host, options.family, options.numeric);
  if (!addresses) return std::unexpected(addresses.error());
  for (std::size_t i = 0;; ++i) {
    SocketAddress target = (*addresses)[i];
    target.port = port;
    auto connected = connect_to(options, target);
    if (connected || i + 1 == addresses->size()) return connected;
    options.narrate(connected.error().message());
  }
}

Status end_of_program(Program& program, const std::string& name) {
  const int status = program.wait();
  if (status == 0) return {};
  return failure("run", name, fmt::format("it ended with status {}", status));
}

}  // namespace

Result<Ending> call(const NetcatOptions& options) {
  auto connected = connect_to_any(options, options.ports.ranges().front().first);
  if (!connected) return std::unexpected(connected.error());
  if (!connected->has_value()) return Ending::stopped;
  Connected& peer = **connected;
  const auto own = original_destination(peer.network.get());  // of a caller: its local address
  if (!own) return std::unexpected(own.error());
  options.narrate(fmt::format("{} to {} from {}", options.transport == Transport::tcp ? "connected" : "sending",
                              peer.target.to_string(), own->to_string()));

  LocalSide side = LocalSide::standard(/*closes_output=*/true);
  std::optional<Program> program;
  if (!options.program.empty()) {
    auto started = Program::start(options.program, {{"LIMPID_CLIENT", own->to_string()},
                                                    {"LIMPID_ORIGINAL_DESTINATION", peer.target.to_string()}});
    if (!started) return std::unexpected(started.error());
    program = started->program;
    side = std::move(started->side);
  }
  Session session(options.transport, std::move(peer.network), std::move(side), options.limits);
  std::array<Session*, 1> sessions{&session};
  std::array<pollfd, 1> others{pollfd{options.stop_fd, POLLIN, 0}};
  while (!session.finished()) {
    if (auto advanced = advance_sessions(sessions, others); !advanced) return std::unexpected(advanced.error());
    if (others[0].revents != 0) return Ending::stopped;
  }
  if (!session.outcome()) {
    Error error = session.outcome().error();
    if (error.operation == "talk to") error.object = peer.target.to_string();
    return std::unexpected(std::move(error));
  }
  if (program) {
    if (auto ended = end_of_program(*program, options.program.front()); !ended) return std::unexpected(ended.error());
  }
  return Ending::finished;
}

}  // namespace limpid
