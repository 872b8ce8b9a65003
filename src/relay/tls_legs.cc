// Each leg does all it can whenever one of its two descriptors says something; both are watched edge-triggered. One buffer a direction, so that who is slow
// holds up who is fast, as between two sockets.
//
// An end is an end only with close_notify. A server that closes without one ends the flow all the same, as nearly all clients have it: what is in the tunnel knows
// better where it ends.
#include "relay/tls_legs.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <map>
#include <new>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "net/tcp_socket.h"
#include "relay/tls_account.h"
#include "relay/tls_session.h"

namespace limpid {
namespace {

constexpr std::size_t kRecordBytes = 16 * 1024;  // RFC 8446, section 5.1
constexpr int kRoundsInTurn = 16;
constexpr std::size_t kLongestCause = 200;
constexpr std::chrono::seconds kContextAge{60};
constexpr std::chrono::seconds kFarewell{1};  ///< when the relay ends
constexpr int kFarewellLookMs = 50;

/// What waits on its way in one direction.
struct Waiting {
  std::vector<std::byte> bytes = std::vector<std::byte>(kRecordBytes);
  std::size_t begin = 0;
  std::size_t end = 0;
  bool ended = false;   ///< nothing comes behind these
  bool passed = false;  ///< and who takes them has been told so
  [[nodiscard]] bool empty() const noexcept { return begin == end; }
};

/// One of ours, and no connection.
bool is_plain_end(const UniqueFd& fd) noexcept {
  int domain = 0;
  socklen_t length = sizeof domain;
  return getsockopt(fd.get(), SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 && domain == AF_UNIX;
}

}  // namespace

class TlsLegs::Leg {
 public:
  Leg(UniqueFd network, UniqueFd plain, Upstream upstream, std::shared_ptr<Account> account)
      : network_(std::move(network)),
        plain_(std::move(plain)),
        upstream_(std::move(upstream)),
        account_(std::move(account)) {
    account_->network = network_.get();
  }
  ~Leg() {
    const std::scoped_lock lock(account_->mutex);
    account_->network = -1;
  }
  Leg(const Leg&) = delete;
  Leg(Leg&&) = delete;
  Leg& operator=(const Leg&) = delete;
  Leg& operator=(Leg&&) = delete;

  enum class Step : std::uint8_t { waits, again, over };

  [[nodiscard]] const Upstream& upstream() const noexcept { return upstream_; }
  /// False where that is impossible; the plain end has been told.
  bool begin(const Result<std::shared_ptr<SSL_CTX>>& context) {
    if (!context) return fail(EPROTO, context.error().cause);
    auto session = make_tls_session(**context, network_.get(), upstream_);
    if (!session) return fail(EPROTO, session.error().cause);
    session_ = std::move(*session);
    return true;
  }
  [[nodiscard]] int network() const noexcept { return network_.get(); }
  [[nodiscard]] int plain() const noexcept { return plain_.get(); }
  bool queued = false;

  /// `plain_gone`: nobody has the plain end any more.
  Step step(bool plain_gone) {
    if (plain_gone && account_->given_up.load(std::memory_order_acquire)) return abandon();
    if (plain_gone && !down_.passed) {
      if (!account_->all_said.load(std::memory_order_acquire)) return abandon();
      down_.begin = down_.end;  // nobody is left to hear it
      down_.ended = down_.passed = true;
    }
    if (plain_gone) account_->limit_farewell();
    if (state_ == State::connecting && !connect()) return state_ == State::connecting ? Step::waits : Step::over;
    if (state_ == State::handshaking && !shake_hands()) return state_ == State::handshaking ? Step::waits : Step::over;
    for (int round = 0; round < kRoundsInTurn; ++round) {
      bool moved = false;
      if (!move_down(moved) || !move_up(moved)) return abandon();
      if (down_.passed && up_.passed) {
        if (account_->carrier) account_->carrier->all_said.store(true, std::memory_order_release);
        return Step::over;
      }
      if (!moved) return Step::waits;
    }
    return Step::again;
  }

 private:
  enum class State : std::uint8_t { connecting, handshaking, open, failed };

  Step abandon() noexcept {
    reset_at_close(network_.get());
    if (account_->carrier) account_->carrier->given_up.store(true, std::memory_order_release);
    account_->broken.store(true, std::memory_order_release);
    return Step::over;
  }

  bool connect() {
    int code = 0;
    socklen_t length = sizeof code;
    getsockopt(network_.get(), SOL_SOCKET, SO_ERROR, &code, &length);
    sockaddr_storage peer{};
    length = sizeof peer;
    if (code == 0 &&
        getpeername(network_.get(), reinterpret_cast<sockaddr*>(&peer), &length) != 0) {  // NOLINT(*-reinterpret-cast)
      return false;
    }
    if (code != 0) return fail(code, std::strerror(code));  // NOLINT(concurrency-mt-unsafe): glibc's is safe
    state_ = State::handshaking;
    return true;
  }

  bool shake_hands() {
    ERR_clear_error();  // SSL_get_error() goes by it
    const int done = SSL_connect(session_.get());
    if (done == 1) {
      const char outcome = 0;
      if (send(plain_.get(), &outcome, 1, MSG_NOSIGNAL) != 1) return fail(EPIPE, "");
      state_ = State::open;
      return true;
    }
    const int code = SSL_get_error(session_.get(), done);
    if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE) return false;
    const long verified = SSL_get_verify_result(session_.get());
    if (verified != X509_V_OK) return fail(EPROTO, X509_verify_cert_error_string(verified));
    return fail(EPROTO, take_openssl_cause());
  }

  bool fail(int code, std::string_view cause) {
    state_ = State::failed;
    const auto text =
        fmt::format("{}TLS: {}", static_cast<char>(std::clamp(code, 1, 255)), cause.substr(0, kLongestCause));
    send(plain_.get(), text.data(), text.size(), MSG_NOSIGNAL);
    return false;
  }

  /// Network → plain. False where the connection has broken.
  bool move_down(bool& moved) {
    if (down_.empty() && !down_.ended) {
      ERR_clear_error();  // SSL_get_error() goes by it
      const int count = SSL_read(session_.get(), down_.bytes.data(), static_cast<int>(down_.bytes.size()));
      if (count > 0) {
        down_.begin = 0;
        down_.end = static_cast<std::size_t>(count);
        moved = true;
      } else {
        switch (SSL_get_error(session_.get(), count)) {
          case SSL_ERROR_WANT_READ:
          case SSL_ERROR_WANT_WRITE: break;
          case SSL_ERROR_ZERO_RETURN: down_.ended = true; break;
          case SSL_ERROR_SSL:
            // An end without close_notify.
            if (account_->carrier && account_->carrier->broken.load(std::memory_order_acquire)) return false;
            if (ERR_GET_REASON(ERR_peek_last_error()) != SSL_R_UNEXPECTED_EOF_WHILE_READING) return false;
            down_.ended = true;
            break;
          default: return false;
        }
      }
    }
    if (!down_.empty()) {
      const auto rest = std::span(down_.bytes).subspan(down_.begin, down_.end - down_.begin);
      const ssize_t sent = send(plain_.get(), rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0) {
        down_.begin += static_cast<std::size_t>(sent);
        moved = true;
      } else if (errno != EAGAIN && errno != EINTR) {
        return false;
      }
    }
    if (down_.empty() && down_.ended && !std::exchange(down_.passed, true)) shutdown(plain_.get(), SHUT_WR);
    return true;
  }

  /// Plain → network.
  bool move_up(bool& moved) {
    if (up_.empty() && !up_.ended) {
      // Whoever asks what is unacknowledged finds these bytes either in the socket pair or here.
      const std::scoped_lock lock(account_->mutex);
      const ssize_t count = recv(plain_.get(), up_.bytes.data(), up_.bytes.size(), MSG_DONTWAIT);
      if (count > 0) {
        account_->waiting = static_cast<std::size_t>(count);
        up_.begin = 0;
        up_.end = static_cast<std::size_t>(count);
        moved = true;
      } else if (count == 0 || (errno == ECONNRESET && account_->all_said.load(std::memory_order_acquire))) {
        up_.ended = true;
      } else if (errno != EAGAIN && errno != EINTR) {
        return false;
      }
    }
    if (!up_.empty()) {
      const auto rest = std::span(up_.bytes).subspan(up_.begin, up_.end - up_.begin);
      ERR_clear_error();  // SSL_get_error() goes by it
      const int sent = SSL_write(session_.get(), rest.data(), static_cast<int>(rest.size()));
      if (sent > 0) {
        up_.begin += static_cast<std::size_t>(sent);
        moved = true;
        const std::scoped_lock lock(account_->mutex);
        account_->waiting = up_.end - up_.begin;
      } else {
        const int code = SSL_get_error(session_.get(), sent);
        if (code != SSL_ERROR_WANT_READ && code != SSL_ERROR_WANT_WRITE) return false;
      }
    }
    if (up_.empty() && up_.ended && !up_.passed) {
      ERR_clear_error();  // SSL_get_error() goes by it
      const int done = SSL_shutdown(session_.get());
      const int code = done < 0 ? SSL_get_error(session_.get(), done) : SSL_ERROR_NONE;
      if (code == SSL_ERROR_WANT_READ || code == SSL_ERROR_WANT_WRITE) return true;
      up_.passed = true;
      shutdown(network_.get(), SHUT_WR);
    }
    return true;
  }

  UniqueFd network_;
  UniqueFd plain_;
  Upstream upstream_;
  std::shared_ptr<Account> account_;
  TlsSession session_;  ///< keeps its context; does not own the descriptor
  State state_ = State::connecting;
  Waiting up_;
  Waiting down_;
};

class TlsLegs::Thread {
 public:
  static Result<std::unique_ptr<Thread>> create() {
    UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
    UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};
    if (!epoll.valid() || !wake.valid() || epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
      return system_error(errno, "watch TLS connections", "");
    }
    return std::make_unique<Thread>(std::move(epoll), std::move(wake));
  }

  Thread(UniqueFd epoll, UniqueFd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {
    // Signals are others' business. A write to a connection that is gone then is an error and nothing else.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread_ = std::jthread([this](const std::stop_token& stopped) { work(stopped); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  ~Thread() {
    thread_.request_stop();
    wake();
  }

  void add(std::unique_ptr<Leg> leg) {
    {
      const std::scoped_lock lock(mutex_);
      incoming_.push_back(std::move(leg));
    }
    wake();
  }

 private:
  struct Known {
    std::shared_ptr<SSL_CTX> context;
    std::chrono::steady_clock::time_point read;
  };

  /// Reading all the certificates of a system takes milliseconds; another file under the same name is seen within a minute.
  Result<std::shared_ptr<SSL_CTX>> context(const Upstream& upstream) {
    Known& known = contexts_[{upstream.tls.ca_file, upstream.tls.verify}];
    const auto now = std::chrono::steady_clock::now();
    if (known.context && now - known.read < kContextAge) return known.context;
    auto made = make_tls_context(upstream);
    if (!made) return std::unexpected(made.error());
    known = {.context = std::move(*made), .read = now};
    return known.context;
  }

  void wake() const noexcept {
    const std::uint64_t one = 1;
    std::ignore = write(wake_.get(), &one, sizeof one);
  }

  void work(const std::stop_token& stopped) {
    std::array<epoll_event, 64> events;
    using Clock = std::chrono::steady_clock;
    std::optional<Clock::time_point> last;
    for (;;) {
      // Whoever had the plain ends has closed them: what they wrote before is still to be sent.
      if (stopped.stop_requested() && !last) last = Clock::now() + kFarewell;
      if (last && (legs_.empty() || Clock::now() >= *last)) return;
      const int patience = ready_.empty() ? (last ? kFarewellLookMs : -1) : 0;
      const int count = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), patience);
      over_.clear();
      for (int i = 0; i < count; ++i) {
        const auto& event = events.at(static_cast<std::size_t>(i));
        if (event.data.ptr == nullptr) {
          take_incoming();
        } else {
          // A plain end that hangs up has nobody at its other end; the network's says so by what is read from it.
          const auto tagged = reinterpret_cast<std::uintptr_t>(event.data.ptr);  // NOLINT(*-reinterpret-cast)
          const bool plain = (tagged & 1U) != 0;
          step(reinterpret_cast<Leg*>(tagged & ~std::uintptr_t{1}),
               plain && (event.events & (EPOLLHUP | EPOLLERR)) !=
                            0);  // NOLINT(*-reinterpret-cast, performance-no-int-to-ptr)
        }
      }
      for (Leg* leg : std::exchange(ready_, {})) {
        if (!leg->queued) continue;
        leg->queued = false;
        step(leg, false);
      }
      for (Leg* leg : over_) legs_.erase(leg);
    }
  }

  void take_incoming() {
    std::uint64_t number = 0;
    std::ignore = read(wake_.get(), &number, sizeof number);
    std::vector<std::unique_ptr<Leg>> incoming;
    {
      const std::scoped_lock lock(mutex_);
      incoming.swap(incoming_);
    }
    for (auto& leg : incoming) {
      Leg* known = leg.get();
      const auto address = reinterpret_cast<std::uintptr_t>(known);  // NOLINT(*-reinterpret-cast)
      const auto watch = [&](int fd, std::uintptr_t tag) {
        epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                          .data = {.ptr = reinterpret_cast<void*>(
                                       address | tag)}};  // NOLINT(*-reinterpret-cast, performance-no-int-to-ptr)
        return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
      };
      try {
        if (!leg->begin(context(leg->upstream()))) continue;
        legs_.emplace(known, std::move(leg));
        ready_.reserve(legs_.size());
        over_.reserve(legs_.size());
      } catch (const std::bad_alloc&) {  // the worker reads an end, and takes the next upstream
        legs_.erase(known);
        continue;
      }
      if (watch(known->network(), 0) && watch(known->plain(), 1)) continue;
      epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, known->network(), nullptr);
      legs_.erase(known);
    }
  }

  void step(Leg* leg, bool plain_gone) {
    if (std::ranges::find(over_, leg) != over_.end()) return;
    switch (leg->step(plain_gone)) {
      case Leg::Step::waits: break;
      case Leg::Step::again:
        if (!std::exchange(leg->queued, true)) ready_.push_back(leg);
        break;
      case Leg::Step::over:
        leg->queued = false;
        // Closing is not enough: a child process that is being started may have copies, and with them events would go on.
        epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, leg->network(), nullptr);
        epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, leg->plain(), nullptr);
        over_.push_back(leg);
        break;
    }
  }

  UniqueFd epoll_;
  UniqueFd wake_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Leg>> incoming_;              ///< under the mutex
  std::map<std::pair<std::string, bool>, Known> contexts_;  ///< the rest is the thread's own
  std::map<Leg*, std::unique_ptr<Leg>> legs_;
  std::vector<Leg*> ready_;  ///< whose turn has ended before their work
  std::vector<Leg*> over_;   ///< to be destroyed when this round's events are through
  std::jthread thread_;      ///< last: it uses all of the above
};

TlsLegs::TlsLegs() = default;
TlsLegs::~TlsLegs() = default;

Result<UniqueFd> TlsLegs::open(UniqueFd connection, const Upstream& upstream) {
  try {
    return open_or_throw(std::move(connection), upstream);
  } catch (const std::exception&) {  // no thread, or no memory
    return system_error(EAGAIN, "begin TLS with", upstream.host);
  }
}

Result<UniqueFd> TlsLegs::open_or_throw(UniqueFd connection, const Upstream& upstream) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
    return system_error(errno, "open a socket pair for", upstream.name);
  }
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  auto account = std::make_shared<Account>();
  if (is_plain_end(connection)) account->carrier = account_of(connection.get());
  Thread* thread = nullptr;
  {
    const std::scoped_lock lock(mutex_);
    if (!thread_) {
      auto made = Thread::create();
      if (!made) return std::unexpected(made.error());
      thread_ = std::move(*made);
    }
    thread = thread_.get();
    accounts_[ours.get()] = account;
  }
  thread->add(std::make_unique<Leg>(std::move(connection), std::move(theirs), upstream, std::move(account)));
  return ours;
}

std::shared_ptr<TlsLegs::Account> TlsLegs::account_of(int plain) const noexcept {
  const std::scoped_lock lock(mutex_);
  const auto found = accounts_.find(plain);
  return found == accounts_.end() ? nullptr : found->second;
}

std::size_t TlsLegs::unacknowledged_bytes(int plain) const noexcept {
  const auto account = account_of(plain);
  return account ? account->unacknowledged(plain) : 0;
}

std::optional<LegAddresses> TlsLegs::network_addresses(int plain) const noexcept {
  const auto account = account_of(plain);
  return account ? account->addresses() : std::nullopt;
}

void TlsLegs::give_up(int plain) const noexcept {
  if (const auto account = account_of(plain)) account->given_up.store(true, std::memory_order_release);
}

bool TlsLegs::is_broken(int plain) const noexcept {
  const auto account = account_of(plain);
  return account && account->broken.load(std::memory_order_acquire);
}

int tls_outcome(int plain, std::string* cause) noexcept {
  char code = 0;
  const ssize_t count = recv(plain, &code, 1, MSG_DONTWAIT);
  if (count < 0) return errno == EAGAIN || errno == EINTR ? EINPROGRESS : errno;
  if (count == 0) return EPIPE;
  if (code != 0 && cause != nullptr) {
    std::array<char, kLongestCause + 8> text{};
    const ssize_t length = recv(plain, text.data(), text.size(), MSG_DONTWAIT);
    if (length > 0) cause->assign(text.data(), static_cast<std::size_t>(length));
  }
  return static_cast<unsigned char>(code);
}

}  // namespace limpid
