// Datagrams to and from resolvers, read on their way so that names are learnt out of answers (`--dns-hint`). Part of UdpEngine.
#include <new>

#include "relay/udp_engine.h"

namespace limpid {

/// Of a run that is sent on to `target`.
void UdpEngine::note_questions(UdpSession& session, std::span<const ReceivedDatagram> run,
                               const SocketAddress& target) {
  try {
    if (!session.dns) session.dns = std::make_unique<DnsWatch>(*options_.hints);
  } catch (const std::bad_alloc&) {
    return;  // it teaches nothing
  }
  for (const ReceivedDatagram& datagram : run) session.dns->note_question(datagram.payload, target);
}

void UdpEngine::learn_names(const UdpSession& session, const ReceivedDatagram& datagram) {
  if (session.dns->learn(datagram.payload, datagram.peer, session.key.client.address, now_ms_))
    counters_.add(Counter::names_learnt);
}

}  // namespace limpid
