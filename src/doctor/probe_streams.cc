// See probe_streams.h. Everything is non-blocking; a loop looks at all sockets every few milliseconds, because a handful of
// them for a few seconds is no work.
#include "doctor/probe_streams.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>
#include <utility>

#include "limpid/transparent.h"
#include "net/endpoint.h"
#include "net/namespace.h"

namespace limpid::doctor {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::string_view kPayload = "limpid doctor: a probe that nothing depends on\n";
constexpr milliseconds kPatience{3500};      // a lost SYN is repeated after one second, and after three
constexpr milliseconds kRelayPatience{500};  // for a proxy that need not relay to the dialled address
constexpr milliseconds kRepeat{700};         // datagrams are not repeated by anybody else
constexpr milliseconds kLook{450};
constexpr milliseconds kReachPatience{1200};

/// Creates something inside a namespace; the calling thread comes back.
template <class Function>
auto inside(int network_namespace, Function function) -> decltype(function()) {
  const auto home = current_network_namespace();
  if (!home) return std::unexpected(home.error());
  if (auto entered = enter_network_namespace(network_namespace); !entered) return std::unexpected(entered.error());
  auto made = function();
  if (auto back = enter_network_namespace(home->get()); !back) return std::unexpected(back.error());
  return made;
}

class Stream {
 public:
  static Result<Stream> open(const ProbeNet& net, const ProbeStream& stream) {
    Stream opened;
    opened.transport_ = stream.transport;
    const SocketAddress target{.address = stream.target, .port = stream.port};
    auto server =
        inside(net.target(), [&] { return open_listener(stream.transport, target, Transparency::when_foreign); });
    if (!server) return std::unexpected(server.error());
    auto client = inside(
        net.client(), [&] { return open_caller(stream.transport, std::nullopt, target, Transparency::when_foreign); });
    if (!client) return std::unexpected(client.error());
    opened.server_ = std::move(*server);
    opened.client_ = std::move(*client);
    return opened;
  }

  void step(Clock::time_point now) {
    if (transport_ == Transport::tcp) {
      step_tcp(now);
    } else {
      step_udp(now);
    }
  }
  [[nodiscard]] const ProbeOutcome& outcome() const { return outcome_; }
  [[nodiscard]] bool is_done(Clock::time_point now, bool relays) const {
    if (outcome_.echoed || failed_) return true;
    return !relays && outcome_.connected && now > connected_at_ + kRelayPatience;
  }

 private:
  void step_tcp(Clock::time_point now) {
    if (!outcome_.connected && !failed_) {
      pollfd waiting{.fd = client_.get(), .events = POLLOUT, .revents = 0};
      if (::poll(&waiting, 1, 0) > 0) {
        failed_ = connection_outcome(client_.get()) != 0;
        outcome_.connected = !failed_;
        connected_at_ = now;
        if (outcome_.connected) (void)::send(client_.get(), kPayload.data(), kPayload.size(), MSG_NOSIGNAL);
      }
    }
    if (!accepted_.valid())
      accepted_ = UniqueFd(::accept4(server_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (accepted_.valid()) echo(accepted_.get());
    if (outcome_.connected) hear();
  }

  void step_udp(Clock::time_point now) {
    if (now >= next_send_) {
      (void)::send(client_.get(), kPayload.data(), kPayload.size(), MSG_NOSIGNAL);
      next_send_ = now + kRepeat;
    }
    sockaddr_storage from{};
    socklen_t length = sizeof from;
    std::array<char, 256> buffer{};
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): what recvfrom(2) and sendto(2) ask for
    auto* native = reinterpret_cast<sockaddr*>(&from);
    const ssize_t received = ::recvfrom(server_.get(), buffer.data(), buffer.size(), 0, native, &length);
    if (received > 0)
      (void)::sendto(server_.get(), buffer.data(), static_cast<std::size_t>(received), MSG_NOSIGNAL, native, length);
    hear();
  }

  static void echo(int fd) {
    std::array<char, 256> buffer{};
    const ssize_t received = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (received > 0) (void)::send(fd, buffer.data(), static_cast<std::size_t>(received), MSG_NOSIGNAL);
  }

  void hear() {
    std::array<char, 256> buffer{};
    const ssize_t received = ::recv(client_.get(), buffer.data(), buffer.size(), 0);
    if (received > 0)
      outcome_.echoed =
          outcome_.echoed || std::string_view(buffer.data(), static_cast<std::size_t>(received)) == kPayload;
    // A proxy that closes will not relay any more.
    if (transport_ == Transport::tcp && (received == 0 || (received < 0 && errno != EAGAIN && errno != EINTR)))
      failed_ = true;
  }

  Transport transport_ = Transport::tcp;
  UniqueFd server_;
  UniqueFd accepted_;
  UniqueFd client_;
  ProbeOutcome outcome_;
  bool failed_ = false;
  Clock::time_point connected_at_;
  Clock::time_point next_send_;
};

Answer await_answer(const UniqueFd& fd, milliseconds patience) {
  pollfd waiting{.fd = fd.get(), .events = POLLOUT, .revents = 0};
  if (::poll(&waiting, 1, static_cast<int>(patience.count())) <= 0) return Answer::silence;
  const int error = connection_outcome(fd.get());
  if (error == 0 || error == ECONNREFUSED || error == ECONNRESET) return Answer::answered;
  return error == ETIMEDOUT ? Answer::silence : Answer::failed;
}

}  // namespace

Result<std::vector<ProbeOutcome>> run_streams(const ProbeNet& net, const std::vector<ProbeStream>& streams, bool relays,
                                              const ReadProgress& read_progress) {
  std::vector<Stream> open;
  for (const ProbeStream& stream : streams) {
    auto opened = Stream::open(net, stream);
    if (!opened) return std::unexpected(opened.error());
    open.push_back(std::move(*opened));
  }
  const auto begun = Clock::now();
  auto next_look = begun + kRelayPatience;
  std::vector<Progress> progress(open.size(), Progress::unknown);
  while (true) {
    const auto now = Clock::now();
    bool all_done = true;
    for (std::size_t i = 0; i < open.size(); ++i) {
      open[i].step(now);
      const bool udp = streams[i].transport == Transport::udp;
      const bool hopeless = progress[i] == Progress::lost && !open[i].outcome().connected;
      const bool enough = udp && !relays && progress[i] == Progress::delivered;
      all_done = all_done && (hopeless || enough || open[i].is_done(now, relays));
    }
    // Looked at at least once behind the deadline: on a busy machine a turn may take long.
    if (all_done || now > begun + kPatience) break;
    if (now > next_look) {
      progress = read_progress();
      next_look = Clock::now() + kLook;
    }
    (void)::poll(nullptr, 0, 5);
  }
  std::vector<ProbeOutcome> outcomes;
  outcomes.reserve(open.size());
  for (const Stream& stream : open) outcomes.push_back(stream.outcome());
  return outcomes;
}

DirectCalls DirectCalls::start(const ProbeNet& net, Port port) {
  DirectCalls calls;
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    if (net.gateway(family).is_unspecified()) continue;
    const SocketAddress address{.address = net.gateway(family), .port = port};
    auto caller = inside(
        net.client(), [&] { return open_caller(Transport::tcp, std::nullopt, address, Transparency::when_foreign); });
    if (caller) calls.callers_.push_back(std::move(*caller));
  }
  calls.begun_ = Clock::now();
  return calls;
}

bool DirectCalls::succeed() {
  std::vector<UniqueFd> callers = std::move(callers_);  // a socket keeps its namespace, and with it the probe's links
  const auto deadline = begun_ + kReachPatience;
  while (!callers.empty()) {
    std::vector<pollfd> waiting;
    waiting.reserve(callers.size());
    for (const UniqueFd& caller : callers) waiting.push_back({.fd = caller.get(), .events = POLLOUT, .revents = 0});
    const auto left = std::max(std::chrono::duration_cast<milliseconds>(deadline - Clock::now()), milliseconds(0));
    if (::poll(waiting.data(), waiting.size(), static_cast<int>(left.count())) <= 0) return false;
    for (std::size_t i = waiting.size(); i-- > 0;) {
      if (waiting[i].revents == 0) continue;
      if (connection_outcome(waiting[i].fd) == 0) return true;
      callers.erase(callers.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  return false;
}

Answer ask_target(const SocketAddress& target, const std::optional<IpAddress>& source, std::uint32_t mark) {
  ConnectOptions options;
  options.mark = mark;
  if (source) options.source = SocketAddress{.address = *source, .port = Port{0}};
  const auto connection = connect_transparent(target, options);
  if (!connection) return Answer::failed;
  return await_answer(*connection, kPatience);
}

}  // namespace limpid::doctor
