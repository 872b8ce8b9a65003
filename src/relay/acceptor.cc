// accept4(2): which of its errors belong to one connection, which mean that descriptors have run out, and what is kept aside
// for that time. Called by its worker only.
#include "relay/acceptor.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "net/client_arrival.h"
#include "net/tcp_socket.h"

namespace limpid {
namespace {

/// An eventfd, because it needs no file system: after chroot(2) there may be nothing to open.
UniqueFd open_reserve() noexcept {
  return UniqueFd(eventfd(0, EFD_CLOEXEC));
}

}  // namespace

void reset_connection(UniqueFd fd) noexcept {
  reset_at_close(fd.get());
}

Result<Acceptor> Acceptor::create(int epoll_fd, std::vector<UniqueFd> listeners) {
  for (std::uint32_t i = 0; i < listeners.size(); ++i) {
    reset_at_close(listeners[i].get());  // of each client's leg, until its flow ends in good order
    epoll_event event{.events = EPOLLIN, .data = {.u64 = data_of(i)}};
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listeners[i].get(), &event) != 0) {
      return system_error(errno, "watch listener", "");
    }
  }
  auto reserve = open_reserve();
  if (!reserve.valid()) return system_error(errno, "create eventfd", "");
  return Acceptor(epoll_fd, std::move(listeners), std::move(reserve));
}

std::vector<int> Acceptor::descriptors() const {
  std::vector<int> all;
  all.reserve(listeners_.size());
  for (const UniqueFd& listener : listeners_) all.push_back(listener.get());
  return all;
}

AcceptOutcome Acceptor::accept(std::uint32_t listener, Accepted& accepted) noexcept {
  if (listener >= listeners_.size()) return AcceptOutcome::empty;
  for (;;) {
    sockaddr_storage native{};
    socklen_t length = sizeof native;
    UniqueFd fd(accept4(listeners_[listener].get(), reinterpret_cast<sockaddr*>(&native), &length,
                        SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (fd.valid()) {
      auto client = SocketAddress::from_native(native);
      if (!client) continue;
      accepted = {std::move(fd), *client};
      return AcceptOutcome::accepted;
    }
    switch (errno) {
      case EMFILE:
      case ENFILE:
      case ENOBUFS:
      case ENOMEM: return AcceptOutcome::exhausted;
      case EAGAIN: return AcceptOutcome::empty;
      case EINTR:
      case ECONNABORTED:  // accept(2): errors of the new connection itself; the next one may be well
      case ENETDOWN:
      case EPROTO:
      case ENOPROTOOPT:
      case EHOSTDOWN:
      case ENONET:
      case EHOSTUNREACH:
      case EOPNOTSUPP:
      case ENETUNREACH: continue;
      default: return AcceptOutcome::empty;
    }
  }
}

AcceptOutcome Acceptor::accept_to_refuse(std::uint32_t listener, Accepted& accepted) noexcept {
  const auto outcome = accept(listener, accepted);
  if (outcome != AcceptOutcome::exhausted) return outcome;
  reserve_.reset();
  return accept(listener, accepted);
}

void Acceptor::refill_reserve() noexcept {
  if (!reserve_.valid()) reserve_ = open_reserve();
}

void Acceptor::keep_syn_headers(bool keep) noexcept {
  if (std::exchange(keeps_syn_headers_, keep) == keep) return;
  for (const UniqueFd& listener : listeners_) limpid::keep_syn_headers(listener.get(), keep);
}

void Acceptor::pause() noexcept {
  paused_ = true;
  set_events(0);
}

void Acceptor::resume() noexcept {
  paused_ = false;
  set_events(EPOLLIN);
}

void Acceptor::set_events(std::uint32_t events) noexcept {
  for (std::uint32_t i = 0; i < listeners_.size(); ++i) {
    epoll_event event{.events = events, .data = {.u64 = data_of(i)}};
    epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, listeners_[i].get(), &event);
  }
}

}  // namespace limpid
