// Transparency and mark for every socket, a source for those that are about to connect and have no address yet.
#include "exec/lending.h"

namespace limpid {
namespace {

std::optional<IpAddress> source_for(const LentSocket& socket, const SocketAddress& remote, const ExecOptions& options) {
  const bool wanted =
      socket.kind == SocketKind::stream || (socket.kind == SocketKind::datagram && options.datagrams_from_source);
  // A reply to a foreign address would never find its way back over loopback: local resolvers and databases would be
  // lost.
  if (!wanted || remote.address.is_loopback() || remote.address.is_unspecified()) return std::nullopt;
  return remote.family() == Family::ipv4 ? options.source_ipv4 : options.source_ipv6;
}

}  // namespace

NotifiedCalls ExecOptions::notified_calls() const noexcept {
  NotifiedCalls wanted{
      .bind_and_listen = transparent || mark != 0, .transparency = transparent, .sends = NotifiedSends::none};
  if (source_ipv4 || source_ipv6) {
    wanted.sends = datagrams_from_source ? NotifiedSends::all : NotifiedSends::fast_open;
  }
  return wanted;
}

Status lend(const LentSocket& socket, const std::optional<SocketAddress>& remote, const ExecOptions& options) {
  if (options.mark != 0) {
    if (auto marked = mark_unless_marked(socket, options.mark); !marked) return marked;
  }
  if (options.transparent) {
    if (auto made = make_transparent(socket); !made) return made;
  }
  if (!remote) return {};
  const auto source = source_for(socket, *remote, options);
  // A call that a signal interrupted comes again, with a socket that is bound already.
  if (!source || !is_unbound(socket)) return {};
  return bind_foreign(socket, *source);
}

}  // namespace limpid
