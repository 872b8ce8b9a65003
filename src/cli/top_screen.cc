// Signals are read from a descriptor like everything else, so that each way out passes the terminal's destructor.
#include "cli/top_screen.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "top/drawing.h"
#include "top/keys.h"
#include "top/terminal.h"

namespace limpid {
namespace {

using Clock = std::chrono::steady_clock;
using top::Order;
using top::Terminal;
using top::View;

/// Within it the rest of a key that sends several bytes comes, over slow lines too; longer, and it was the escape key.
constexpr std::chrono::milliseconds kRestOfAKey{150};

Result<UniqueFd> take_signals_of_a_screen() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH}) sigaddset(&signals, signal);
  // Threads to come inherit it.
  if (const int error = pthread_sigmask(SIG_BLOCK, &signals, nullptr); error != 0)
    return system_error(error, "block", "signals");
  UniqueFd descriptor(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!descriptor.valid()) return system_error(errno, "open", "signalfd");
  return descriptor;
}

/// As if ^Z had done what it usually does: the kernel stops us, unless nobody could continue us (an orphaned process group).
void stop_until_continued() {
  sigset_t stop;
  sigemptyset(&stop);
  sigaddset(&stop, SIGTSTP);
  (void)::raise(SIGTSTP);
  pthread_sigmask(SIG_UNBLOCK, &stop, nullptr);
  pthread_sigmask(SIG_BLOCK, &stop, nullptr);
}

class Loop {
 public:
  Loop(const TopScreen& screen, UniqueFd signals, TopFeed feed, Terminal terminal)
      : screen_(screen),
        signals_(std::move(signals)),
        feed_(std::move(feed)),
        terminal_(std::move(terminal)),
        view_(screen.choice) {}

  Status run(top::Reading first);

 private:
  Status draw();
  [[nodiscard]] int patience() const;
  Status read_signals();
  void read_keys();
  void press(top::Key key);
  void read_answers();
  void ask_if_due();

  const TopScreen& screen_;
  UniqueFd signals_;
  TopFeed feed_;
  Terminal terminal_;
  View view_;
  top::KeyReader keys_;
  bool ends_ = false;
  bool asked_ = false;  ///< an answer is to come
  Clock::time_point due_;
};

Status Loop::run(top::Reading first) {
  view_.take(std::move(first));
  due_ = Clock::now() + screen_.interval;
  while (!ends_) {
    if (auto drawn = draw(); !drawn) return drawn;
    std::array<pollfd, 3> watched{{{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0},
                                   {.fd = signals_.get(), .events = POLLIN, .revents = 0},
                                   {.fd = feed_.descriptor(), .events = POLLIN, .revents = 0}}};
    const int count = ::poll(watched.data(), watched.size(), patience());
    if (count < 0 && errno != EINTR) return system_error(errno, "wait for", "keys");
    if (count <= 0) {
      if (const auto key = keys_.time_out()) press(*key);
    } else {
      if (watched[1].revents != 0) {
        if (auto done = read_signals(); !done) return done;
      }
      if (watched[2].revents != 0) read_answers();
      if (watched[0].revents != 0 && !ends_) read_keys();
    }
    ask_if_due();
  }
  return {};
}

Status Loop::draw() {
  top::Canvas canvas = terminal_.size();
  canvas.unicode = screen_.unicode;
  view_.set_page(top::rows_that_fit(canvas));
  return terminal_.show(top::draw(view_, canvas), canvas.columns);
}

int Loop::patience() const {
  using std::chrono::milliseconds;
  auto longest = milliseconds(-1);
  if (!asked_ && !view_.paused())
    longest = std::max(milliseconds(0), std::chrono::ceil<milliseconds>(due_ - Clock::now()));
  if (keys_.waits()) longest = longest.count() < 0 ? kRestOfAKey : std::min(longest, kRestOfAKey);
  return static_cast<int>(longest.count());
}

void Loop::ask_if_due() {
  if (asked_ || view_.paused() || Clock::now() < due_) return;
  asked_ = true;
  due_ = Clock::now() + screen_.interval;
  feed_.ask(view_.choice().sort);
}

Status Loop::read_signals() {
  signalfd_siginfo signal{};
  while (::read(signals_.get(), &signal, sizeof signal) == sizeof signal) {
    switch (signal.ssi_signo) {
      case SIGTSTP:
        terminal_.give_back();
        stop_until_continued();
        [[fallthrough]];
      case SIGCONT:
        if (auto taken = terminal_.take(); !taken) return taken;
        break;
      case SIGWINCH: break;  // the next drawing asks for the size
      default: ends_ = true; break;
    }
  }
  return {};
}

void Loop::read_keys() {
  std::array<char, 256> bytes{};
  const ssize_t count = ::read(STDIN_FILENO, bytes.data(), bytes.size());
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (count <= 0) {  // the terminal is gone
    ends_ = true;
    return;
  }
  for (const auto key : keys_.feed({bytes.data(), static_cast<std::size_t>(count)})) press(key);
}

void Loop::press(top::Key key) {
  const bool was_paused = view_.paused();
  const Order order = view_.press(key);
  if (was_paused && !view_.paused()) due_ = Clock::now();
  switch (order.kind) {
    case Order::Kind::none: break;
    case Order::Kind::quit: ends_ = true; break;
    case Order::Kind::redraw: terminal_.forget(); break;
    case Order::Kind::kill: feed_.kill(order.id); break;
  }
}

void Loop::read_answers() {
  while (auto answer = feed_.next()) {
    if (!answer->reading) {
      view_.say(top::in_cells(answer->kill_outcome));
      continue;
    }
    asked_ = false;
    // What comes after p was pressed would change what is looked at.
    if (!*answer->reading) {
      view_.lose(top::in_cells("trying again: " + answer->reading->error().message()));
    } else if (!view_.paused()) {
      view_.take(std::move(**answer->reading));
    }
  }
}

}  // namespace

Status show_live(const TopScreen& screen) {
  auto first = ask_for_reading(screen.source, screen.choice.sort);
  if (!first) return std::unexpected(first.error());
  auto signals = take_signals_of_a_screen();
  if (!signals) return std::unexpected(signals.error());
  auto feed = TopFeed::start(screen.source);
  if (!feed) return std::unexpected(feed.error());
  auto terminal = Terminal::open(STDIN_FILENO, STDOUT_FILENO, screen.colour);
  if (!terminal) return std::unexpected(terminal.error());
  Loop loop(screen, std::move(*signals), std::move(*feed), std::move(*terminal));
  return loop.run(std::move(*first));
}

}  // namespace limpid
