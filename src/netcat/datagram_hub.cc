// No socket per client: whatever the clients send keeps arriving at the listeners, in order.
#include "netcat/datagram_hub.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

#include "limpid/datagram.h"
#include "netcat/session.h"

namespace limpid {
namespace {

using Clock = Session::Clock;
constexpr std::size_t kLargestAnswerBytes = 65507;

struct LastClient {
  int listener = -1;
  SocketAddress client;
  SocketAddress dialled;
};

Status write_whole(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (count < 0 && errno != EINTR && errno != EAGAIN) return system_error(errno, "write to", "standard output");
    if (count > 0) bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return {};
}

class Hub {
 public:
  Hub(const NetcatOptions& options, NetcatListeners listeners)
      : options_(options), listeners_(std::move(listeners.sockets)), buffer_(kLargestAnswerBytes) {}

  Result<Ending> run() {
    while (true) {
      std::vector<pollfd> polls{pollfd{options_.stop_fd, POLLIN, 0},
                                // Nobody to answer yet: what is typed waits.
                                pollfd{last_ && !input_end_ ? STDIN_FILENO : -1, POLLIN, 0}};
      for (const UniqueFd& listener : listeners_) polls.push_back({listener.get(), POLLIN, 0});
      if (poll(polls.data(), polls.size(), patience()) < 0) {
        if (errno == EINTR) continue;
        return system_error(errno, "poll", "");
      }
      if (polls[0].revents != 0) return Ending::stopped;
      for (std::size_t i = 2; i < polls.size(); ++i) {
        if (polls[i].revents == 0) continue;
        if (auto received = receive(polls[i].fd); !received) return std::unexpected(received.error());
      }
      if (polls[1].revents != 0) {
        if (auto answered = answer(); !answered) return std::unexpected(answered.error());
      }
      if (patience() == 0) return Ending::finished;
    }
  }

 private:
  Status receive(int listener) {
    for (const ReceivedDatagram& datagram : batch_.receive(listener)) {
      if (!datagram.original_destination) continue;
      const SocketAddress& dialled = *datagram.original_destination;
      if (!last_ || last_->client != datagram.peer || last_->dialled != dialled) {
        options_.narrate(fmt::format("datagram from {} to {}", datagram.peer.to_string(), dialled.to_string()));
        last_ = LastClient{.listener = listener, .client = datagram.peer, .dialled = dialled};
      }
      last_activity_ = Clock::now();
      if (auto written = write_whole(datagram.payload); !written) return written;
    }
    return {};
  }

  Status answer() {
    const ssize_t count = read(STDIN_FILENO, buffer_.data(), buffer_.size());
    if (count < 0) {
      if (errno == EINTR || errno == EAGAIN) return {};
      return system_error(errno, "read", "standard input");
    }
    if (count == 0) {
      input_end_ = Clock::now();
      return {};
    }
    last_activity_ = Clock::now();
    const auto payload = std::span(buffer_).first(static_cast<std::size_t>(count));
    auto sent = answer_datagram(last_->listener, last_->dialled, last_->client, payload);
    // One client that has gone does not end the others' service.
    if (!sent && sent.error().kind == ErrorKind::unsupported) return sent;
    if (!sent) options_.narrate(sent.error().message());
    return {};
  }

  /// As poll(2) wants it; 0: the end.
  [[nodiscard]] int patience() const {
    std::optional<Clock::time_point> end;
    // Silence counts from the first datagram on.
    if (options_.limits.idle && last_) end = last_activity_ + *options_.limits.idle;
    if (options_.limits.linger && input_end_) {
      const auto lingered = *input_end_ + *options_.limits.linger;
      end = end ? std::min(*end, lingered) : lingered;
    }
    if (!end) return -1;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*end - Clock::now()).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000));
  }

  const NetcatOptions& options_;
  std::vector<UniqueFd> listeners_;
  DatagramBatch batch_;
  std::vector<std::byte> buffer_;  ///< what is read of standard input
  std::optional<LastClient> last_;
  std::optional<Clock::time_point> input_end_;
  Clock::time_point last_activity_ = Clock::now();
};

}  // namespace

Result<Ending> serve_datagrams(const NetcatOptions& options, NetcatListeners listeners) {
  return Hub(options, std::move(listeners)).run();
}

}  // namespace limpid
