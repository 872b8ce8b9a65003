// The transfer loop's body: which descriptor is waited for, and what each event does to the two directions.
#include "netcat/session.h"

#include <fcntl.h>
#include <linux/limits.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace limpid {
namespace {

constexpr std::size_t kLocalInput = 0;
constexpr std::size_t kNetwork = 1;
constexpr std::size_t kLocalOutput = 2;
constexpr short kTrouble = POLLHUP | POLLERR | POLLNVAL;

/// Standard output is shared with other processes, so it stays as blocking as it is.
std::size_t write_limit(const LocalSide& local) {
  if (local.is_program) return SIZE_MAX;
  struct stat status{};
  return fstat(local.output(), &status) == 0 && S_ISREG(status.st_mode) ? SIZE_MAX : PIPE_BUF;
}

}  // namespace

LocalSide LocalSide::standard(bool closes_output) {
  LocalSide side;
  side.closes_output = closes_output;
  return side;
}

int LocalSide::input() const noexcept {
  return is_program ? owned_input.get() : STDIN_FILENO;
}

int LocalSide::output() const noexcept {
  return is_program ? owned_output.get() : STDOUT_FILENO;
}

Session::Session(Transport transport, UniqueFd network, LocalSide local, const ConversationLimits& limits)
    : transport_(transport),
      network_(std::move(network)),
      local_(std::move(local)),
      limits_(limits),
      outgoing_({.source = local_.input(), .sink = network_.get(), .sink_is_datagrams = transport == Transport::udp}),
      incoming_({.source = network_.get(),
                 .sink = local_.output(),
                 .source_is_datagrams = transport == Transport::udp,
                 .write_limit_bytes = write_limit(local_)}),
      input_is_terminal_(!local_.is_program && isatty(STDIN_FILENO) == 1) {}

std::array<pollfd, Session::kPolls> Session::polls() const noexcept {
  short network_events = 0;
  if (incoming_.wants_input()) network_events |= POLLIN;
  if (outgoing_.wants_output()) network_events |= POLLOUT;
  // Having heard the peer's end, we still want to hear of its reset while we send. Otherwise a hang-up that nobody acts
  // on would wake poll(2) for ever.
  const bool listens = network_events != 0 || (incoming_.done() && !outgoing_.done());
  return {pollfd{outgoing_.wants_input() ? local_.input() : -1, POLLIN, 0},
          pollfd{listens ? network_.get() : -1, network_events, 0},
          pollfd{incoming_.wants_output() ? local_.output() : -1, POLLOUT, 0}};
}

void Session::advance(std::span<const pollfd, kPolls> polls) {
  const short network = polls[kNetwork].revents;
  if (polls[kLocalInput].revents != 0) read_local();
  if (!finished_ && (network & (POLLOUT | kTrouble)) != 0 && outgoing_.wants_output()) write_network();
  if (!finished_ && (network & (POLLIN | kTrouble)) != 0) read_network();
  if (!finished_ && polls[kLocalOutput].revents != 0 && incoming_.wants_output()) write_local();
  if (!finished_) settle();
}

void Session::read_local() {
  switch (outgoing_.fill()) {
    case PumpStep::moved:
      note_activity();
      write_network();
      break;
    case PumpStep::failed:
      finish(system_error(outgoing_.error(), "read", local_.is_program ? "the program's output" : "standard input"));
      break;
    case PumpStep::blocked:
    case PumpStep::ended: break;
  }
}

void Session::write_network() {
  const PumpStep step = outgoing_.flush();
  if (step == PumpStep::moved) note_activity();
  if (step != PumpStep::failed) return;
  if (transport_ == Transport::udp) {
    network_failed(outgoing_.error());
    return;
  }
  // What the peer sent before it went can still be read (and that read no longer reports the reset).
  network_error_ = outgoing_.error();
  outgoing_.close_sink();
  outgoing_.end_source();
}

void Session::read_network() {
  if (!incoming_.wants_input()) {
    // A hang-up after the peer's end: it takes no more. The error may have been consumed by a write already.
    if (incoming_.done() && !outgoing_.done()) {
      const int code = take_error(network_.get());
      network_failed(code != 0 ? code : EPIPE);
    }
    return;
  }
  switch (incoming_.fill()) {
    case PumpStep::moved: note_activity(); break;
    case PumpStep::failed: network_failed(incoming_.error()); break;
    case PumpStep::blocked:
    case PumpStep::ended: break;
  }
}

void Session::write_local() {
  const PumpStep step = incoming_.flush();
  if (step == PumpStep::moved) note_activity();
  if (step != PumpStep::failed) return;
  if (local_.is_program && incoming_.error() == EPIPE) {
    incoming_.close_sink();  // it has read enough, and may still have something to say
  } else {
    finish(system_error(incoming_.error(), "write to", local_.is_program ? "the program" : "standard output"));
  }
}

void Session::settle() {
  const auto now = Clock::now();
  if (outgoing_.done() && !input_end_told_) {
    input_end_told_ = true;
    if (!first_end_) first_end_ = now;
    const bool tells = limits_.finish_after_input || local_.is_program;
    if (transport_ == Transport::tcp && tells) shutdown(network_.get(), SHUT_WR);
  }
  if (incoming_.done() && !output_closed_) {
    output_closed_ = true;
    if (!first_end_) first_end_ = now;
    close_output();
    if (input_is_terminal_) outgoing_.end_source();
  }
  const bool both_ended = outgoing_.done() && incoming_.done();
  // A program that has ended has nobody who could read an answer any more, and datagrams have no end.
  const bool program_ended = local_.is_program && transport_ == Transport::udp && outgoing_.done();
  const bool idle_too_long = limits_.idle && now >= last_activity_ + *limits_.idle;
  const bool lingered = limits_.linger && first_end_ && now >= *first_end_ + *limits_.linger;
  if (both_ended && network_error_ != 0) {
    finish(system_error(network_error_, "talk to", "the peer"));
  } else if (both_ended || program_ended || idle_too_long || lingered) {
    finish({});
  }
}

void Session::close_output() {
  if (local_.is_program) {
    local_.owned_output.reset();
  } else if (local_.closes_output) {
    // Whoever reads from us sees the end now. The number stays taken, so that nothing else can become descriptor 1.
    const UniqueFd nowhere(open("/dev/null", O_WRONLY | O_CLOEXEC));
    if (nowhere.valid()) dup2(nowhere.get(), STDOUT_FILENO);
  }
}

void Session::network_failed(int code) {
  network_error_ = code;
  outgoing_.close_sink();
  outgoing_.end_source();
  incoming_.end_source();
}

void Session::finish(Status outcome) {
  finished_ = true;
  outcome_ = std::move(outcome);
  // After a conversation that was cut short the peer still sees an end, not a reset, as far as that is up to us.
  if (transport_ == Transport::tcp) shutdown(network_.get(), SHUT_WR);
  network_.reset();
}

std::optional<Session::Clock::time_point> Session::deadline() const {
  std::optional<Clock::time_point> earliest;
  if (limits_.idle) earliest = last_activity_ + *limits_.idle;
  if (limits_.linger && first_end_) {
    const auto end = *first_end_ + *limits_.linger;
    earliest = earliest ? std::min(*earliest, end) : end;
  }
  return earliest;
}

Status advance_sessions(std::span<Session* const> sessions, std::span<pollfd> others,
                        std::optional<Session::Clock::time_point> wake_up) {
  std::vector<pollfd> polls(others.begin(), others.end());
  for (const Session* session : sessions) {
    const auto wanted = session->polls();
    polls.insert(polls.end(), wanted.begin(), wanted.end());
    if (const auto deadline = session->deadline()) wake_up = wake_up ? std::min(*wake_up, *deadline) : *deadline;
  }
  int patience = -1;
  if (wake_up) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(*wake_up - Session::Clock::now()).count();
    patience = static_cast<int>(std::clamp<std::int64_t>(left, 0, 3'600'000));
  }
  if (poll(polls.data(), polls.size(), patience) < 0) {
    if (errno != EINTR) return system_error(errno, "poll", "");
    for (pollfd& entry : polls) entry.revents = 0;
  }
  std::copy_n(polls.begin(), others.size(), others.begin());
  auto next = std::span<const pollfd>(polls).subspan(others.size());
  for (Session* session : sessions) {
    session->advance(next.first<Session::kPolls>());
    next = next.subspan(Session::kPolls);
  }
  return {};
}

}  // namespace limpid
