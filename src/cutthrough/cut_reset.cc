// See cut_reset.h. A receiver takes a RST at once if its seq is what it expects next (RFC 5961): what it has acknowledged last, or, if that ACK was late,
// all that it was sent. Otherwise it asks back with an ACK, which the programs answer while the flow is resetting.
#include "cutthrough/cut_reset.h"

#include <tuple>

#include "cutthrough/cut_values.h"
#include "net/packet.h"

namespace limpid {

Result<ResetSender> ResetSender::open(std::uint32_t mark) {
  ResetSender resets;
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    auto sender = RawSender::open(family, mark);
    if (!sender) return std::unexpected(sender.error());
    (family == Family::ipv4 ? resets.ipv4_ : resets.ipv6_).emplace(std::move(*sender));
  }
  return resets;
}

void ResetSender::send(const limpid_cut_flow& flow) {
  for (const int direction : {LIMPID_CUT_UP, LIMPID_CUT_DOWN}) {
    const limpid_cut_way& way = flow.ways[direction];
    const limpid_cut_way& answers = flow.ways[1 - direction];
    const SocketAddress from = source_of(way.to);
    const SocketAddress to = destination_of(way.to);
    auto& sender = to.family() == Family::ipv4 ? ipv4_ : ipv6_;
    if (!sender) continue;
    const bool finished = (flow.happened & LIMPID_CUT_FIN(direction)) != 0;
    const std::uint32_t sent = static_cast<std::uint32_t>(way.edge) + way.seq_delta + (finished ? 1 : 0);
    for (const std::uint32_t seq : {answers.last_ack, sent}) {
      std::ignore = sender->send_packet(build_reset(from, to, seq, {}), to.address);
      if (sent == answers.last_ack) break;
    }
  }
}

}  // namespace limpid
