// The handshakes are those of flows; only where nothing is to be asked for they end earlier.
#include "relay/upstream_check.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "limpid/transparent.h"
#include "net/endpoint.h"

namespace limpid {
namespace {

/// Answers are short. What is behind one belongs to the next handshake, so it is only looked at.
constexpr std::size_t kPeekBytes = 512;

/// Whom the hop is chosen for: nobody in particular.
UpstreamGroup::Question question_for(const SocketAddress& server, bool has_name) {
  return {.client = IpAddress::any(server.family()), .destination = server, .has_name = has_name};
}

}  // namespace

UpstreamCheck::UpstreamCheck(const UpstreamGroup& group, unsigned member, std::uint32_t mark, TlsLegs& tls)
    : tls_(tls), began_(std::chrono::steady_clock::now()) {
  const Upstream& upstream = group.member(member);
  const UpstreamServer* server = group.server(member);
  const auto& target = group.options().check_target;
  if (server == nullptr) {
    // Straight to the target, by the interface or source that the upstream stands for.
    if (target) dial(upstream, target->address, mark, tls);
    return;
  }
  if (UpstreamGroup* hops = group.via(); hops != nullptr) {
    const bool named = is_named(upstream);
    const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(began_.time_since_epoch()).count();
    const auto hop = hops->choose(question_for(server->address, named), static_cast<std::uint64_t>(now));
    const UpstreamServer* hop_server = hop ? hops->server(*hop) : nullptr;
    if (hop_server == nullptr) {
      fail(fmt::format("no upstream of {} is up", hops->options().name));
      return;
    }
    const std::string_view name = named ? std::string_view(upstream.host) : std::string_view();
    words_.push_back(
        {.handshake = Handshake(hops->member(*hop), {.client = {}, .destination = server->address, .name = name}),
         .only_authorization = false,
         .is_hop = true});
    dial(hops->member(*hop), hop_server->address, mark, tls);
    if (upstream.tls.used) behind_hop_ = &upstream;
  } else {
    dial(upstream, server->address, mark, tls);
  }
  if (target && reaches_others(upstream.kind)) {
    words_.push_back(
        {.handshake = Handshake(upstream, {.client = {}, .destination = target->address, .name = target->name}),
         .only_authorization = false,
         .is_hop = false});
  } else if (upstream.kind == UpstreamKind::socks5) {
    words_.push_back({.handshake = Handshake(Socks5Handshake(upstream.credentials, {}, Socks5Command::connect)),
                      .only_authorization = true,
                      .is_hop = false});
  }
}

void UpstreamCheck::dial(const Upstream& upstream, const SocketAddress& to, std::uint32_t mark, TlsLegs& tls) {
  std::optional<SocketAddress> source;
  if (upstream.source) source = SocketAddress{.address = *upstream.source, .port = {}};
  auto fd = connect_transparent(to, {.source = source, .mark = mark | upstream.mark, .interface = upstream.interface});
  if (!fd) return fail(fd.error().message());
  fd_ = std::move(*fd);
  if (upstream.tls.used) encrypt(upstream, tls);
}

void UpstreamCheck::encrypt(const Upstream& upstream, TlsLegs& tls) {
  auto plain = tls.open(std::move(fd_), upstream);
  if (!plain) return fail(plain.error().message());
  fd_ = std::move(*plain);
  encrypted_ = true;
}

void UpstreamCheck::fail(std::string_view cause) {
  healthy_ = false;
  cause_ = cause;
}

std::uint64_t UpstreamCheck::passed_us() const noexcept {
  const auto passed = std::chrono::steady_clock::now() - began_;
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(passed).count());
}

std::int16_t UpstreamCheck::wanted() const noexcept {
  if (!connected_ && encrypted_) return POLLIN;
  const bool speaks = !connected_ || (!words_.empty() && !words_.front().handshake.waiting().empty());
  return speaks ? POLLOUT : POLLIN;
}

void UpstreamCheck::step() {
  if (healthy_) return;
  if (!connected_) {
    std::string cause;
    const int code = encrypted_ ? tls_outcome(fd_.get(), &cause) : connection_outcome(fd_.get());
    if (code == EINPROGRESS) return;
    if (!cause.empty()) return fail(cause);
    if (code != 0)
      return fail(fmt::format("connect: {}", std::strerror(code)));  // NOLINT(concurrency-mt-unsafe): glibc's is safe
    connected_ = true;
    connected_us_ = passed_us();
  }
  while (!healthy_ && !words_.empty()) {
    const Words& words = words_.front();
    const HandshakeState state = words.handshake.state();
    if (words.only_authorization && words.handshake.is_past_upstream()) break;
    if (state == HandshakeState::done) {
      if (!go_on()) return;
    } else if (state != HandshakeState::running) {
      return fail(fmt::format("{}: {}", words.is_hop ? "the hop" : "the upstream", to_string(state)));
    } else if (!words.handshake.waiting().empty() ? !say() : !hear()) {
      return;
    }
  }
  if (!healthy_) healthy_ = true;
}

/// To what is said next. False where TLS comes first.
bool UpstreamCheck::go_on() {
  // Behind a hop, the way to the upstream is there only now.
  if (words_.front().is_hop) connected_us_ = passed_us();
  words_.pop_front();
  const Upstream* upstream = std::exchange(behind_hop_, nullptr);
  if (upstream == nullptr) return true;
  encrypt(*upstream, tls_);
  connected_ = false;
  return false;
}

bool UpstreamCheck::say() {
  Handshake& handshake = words_.front().handshake;
  const auto waiting = handshake.waiting();
  const ssize_t sent = send(fd_.get(), waiting.data(), waiting.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent >= 0) {
    handshake.sent(static_cast<std::size_t>(sent));
    return true;
  }
  if (errno != EAGAIN && errno != EINTR) fail("the connection broke");
  return false;
}

bool UpstreamCheck::hear() {
  std::array<std::byte, kPeekBytes> bytes{};
  const ssize_t there = recv(fd_.get(), bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
  if (there < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (there <= 0) {
    fail("the connection ended before the answer");
    return false;
  }
  const std::size_t taken = words_.front().handshake.take(std::span(bytes).first(static_cast<std::size_t>(there)));
  if (taken > 0) std::ignore = recv(fd_.get(), bytes.data(), taken, MSG_DONTWAIT);
  if (taken == 0) fail("an answer before the question");
  return taken > 0;
}

}  // namespace limpid
