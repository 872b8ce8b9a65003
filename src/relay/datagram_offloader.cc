// Reasons of the paths first, then those of whoever takes it over.
#include "relay/datagram_offloader.h"

#include <cerrno>
#include <utility>

namespace limpid {

Result<std::unique_ptr<DatagramOffloader>> DatagramOffloader::create(const UdpHandOver& way) {
  auto paths = OffloadPaths::open(way.local_ends);
  if (!paths) return std::unexpected(paths.error());
  return std::unique_ptr<DatagramOffloader>(new DatagramOffloader(way, std::move(*paths)));
}

DatagramOffloader::DatagramOffloader(const UdpHandOver& way, OffloadPaths paths)
    : offload_(*way.offload), open_(*way.open), keeps_flows_(*way.keeps_flows), paths_(std::move(paths)) {}

SessionOutcome DatagramOffloader::begin(const OffloadedSession& session) {
  auto reason = paths_.reason_to_stay(Transport::udp, {.client = session.record.client,
                                                       .original_destination = session.record.original_destination,
                                                       .source = session.source,
                                                       .target = session.record.target});
  if (!reason) {
    const auto begun = offload_.begin_session(session);
    if (begun) return SessionOutcome::begun;
    if (begun.error().code == EEXIST) return SessionOutcome::there_already;
    reason = stay_reason(begun.error().code);
  }
  count_stay(*reason);
  return SessionOutcome::stays;
}

void DatagramOffloader::count_stay(StayReason reason) noexcept {
  stayed_.add(reason);
}

}  // namespace limpid
