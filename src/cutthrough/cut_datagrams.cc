// See cut_datagrams.h. The maps are the only state. A session's entry in limpid_cut_talk, which no program reads, is there before its two ways are, and
// goes after them: whatever a killed process leaves is found by it.
#include "cutthrough/cut_datagrams.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "bpf/cut_through_datagram_layout.h"
#include "cutthrough/cut_entries.h"
#include "cutthrough/cut_programs.h"
#include "cutthrough/cut_values.h"
#include "net/bpf_object.h"

namespace limpid {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kScanSeconds = 30;  ///< at most, between looks at all sessions
constexpr std::uint64_t kHalfMadeNs = 5 * kSecond;
constexpr std::uint16_t kDnsPort = 53;

std::unexpected<Error> refused(int code, const CutLegs& legs, std::string_view cause) {
  return std::unexpected(Error{.kind = ErrorKind::failure,
                               .code = code,
                               .operation = "cut through",
                               .object = "UDP " + legs.client.to_string() + " to " + legs.target.to_string(),
                               .cause = std::string(cause),
                               .remedy = {}});
}

Status check_legs(const CutLegs& legs) {
  for (const SocketAddress& address : {legs.client, legs.original_destination, legs.source, legs.target}) {
    if (address.family() != legs.client.family()) return refused(EAFNOSUPPORT, legs, "its legs are of two families");
    if (!can_be_forwarded(address)) return refused(EINVAL, legs, address.to_string() + " is nowhere to forward to");
  }
  return {};
}

std::optional<limpid_cut_datagrams> find_way(const CutMaps& maps, const limpid_cut_tuple& tuple) {
  limpid_cut_datagrams way{};
  if (bpf_map_lookup_elem(maps.datagrams.get(), &tuple, &way) != 0) return std::nullopt;
  return way;
}

CutThroughTraffic traffic_of(const std::optional<limpid_cut_datagrams>& up,
                             const std::optional<limpid_cut_datagrams>& down, const limpid_cut_session& session,
                             const CutClock& now) {
  CutThroughTraffic traffic;
  std::uint64_t last = session.begun_ns;
  if (up) {
    traffic.bytes_up = up->bytes;
    traffic.packets_up = up->packets;
    last = std::max<std::uint64_t>(last, up->last_ns);
  }
  if (down) {
    traffic.bytes_down = down->bytes;
    traffic.packets_down = down->packets;
    last = std::max<std::uint64_t>(last, down->last_ns);
  }
  traffic.answered = session.answered != 0 || traffic.packets_down > 0;
  traffic.idle = std::chrono::nanoseconds(now.monotonic_ns > last ? now.monotonic_ns - last : 0);
  return traffic;
}

}  // namespace

struct CutDatagrams::Found {
  limpid_cut_tuple key{};
  limpid_cut_session session{};

  [[nodiscard]] static std::optional<Found> one(const CutMaps& maps, const limpid_cut_tuple& key) {
    Found found{.key = key};
    if (bpf_map_lookup_elem(maps.sessions.get(), &found.key, &found.session) != 0) return std::nullopt;
    return found;
  }
  [[nodiscard]] static std::optional<Found> one(const CutMaps& maps, const SocketAddress& client,
                                                const SocketAddress& original_destination) {
    return one(maps, tuple_of(client, original_destination, Transport::udp));
  }
  /// Each as it is when it is visited.
  template <typename Visit>
  static void each(const CutMaps& maps, Visit visit) {
    std::vector<limpid_cut_tuple> keys;
    visit_entries<limpid_cut_tuple, limpid_cut_session>(
        maps.sessions.get(), [&](const limpid_cut_tuple& key, const limpid_cut_session&) { keys.push_back(key); });
    for (const limpid_cut_tuple& key : keys) {
      if (const auto found = one(maps, key)) visit(*found);
    }
  }
};

CutDatagrams::CutDatagrams(const CutMaps& maps, const CutDatagramOptions& options, CheckWays check)
    : maps_(maps),
      options_(options),
      check_(std::move(check)),
      self_(options.self != 0 ? options.self : std::uint64_t{CutClock::now().monotonic_ns}) {
  Found::each(maps, [&](const Found& found) { adopted_ += found.session.keeper != self_ ? 1U : 0U; });
}

Status CutDatagrams::begin(const CutThroughSession& session) {
  const CutLegs& legs = session.legs;
  if (auto checked = check_legs(legs); !checked) return checked;
  if (auto checked = check_(legs); !checked) return checked;
  Found made;
  made.key = tuple_of(legs.client, legs.original_destination, Transport::udp);
  made.session.back = tuple_of(legs.target, legs.source, Transport::udp);
  made.session.keeper = session.kept ? self_ : 0;
  made.session.bytes_before[LIMPID_CUT_UP] = session.bytes_up;
  made.session.bytes_before[LIMPID_CUT_DOWN] = session.bytes_down;
  made.session.started_us = session.started_us;
  made.session.begun_ns = CutClock::now().monotonic_ns;
  made.session.source = session.source;
  made.session.answered = session.answered ? 1 : 0;
  const auto failed = [&](int code, const char* map) -> Status {
    if (code == -EEXIST) return refused(EEXIST, legs, "one of its tuples is cut through");
    if (code == -E2BIG) return refused(ENOSPC, legs, "there are as many sessions as the maps hold");
    return bpf_error(-code, "write to", map);
  };
  const std::lock_guard lock(writing_);
  if (const int code = bpf_map_update_elem(maps_.sessions.get(), &made.key, &made.session, BPF_NOEXIST); code != 0)
    return failed(code, "map limpid_cut_talk");
  // The answers' way is there first: whatever is forwarded can be answered.
  limpid_cut_datagrams down{};
  down.to = tuple_of(legs.original_destination, legs.client, Transport::udp);
  down.direction = LIMPID_CUT_DOWN;
  int code = bpf_map_update_elem(maps_.datagrams.get(), &made.session.back, &down, BPF_NOEXIST);
  if (code == 0) {
    limpid_cut_datagrams up{};
    up.to = tuple_of(legs.source, legs.target, Transport::udp);
    up.direction = LIMPID_CUT_UP;
    code = bpf_map_update_elem(maps_.datagrams.get(), &made.key, &up, BPF_NOEXIST);
    if (code != 0) bpf_map_delete_elem(maps_.datagrams.get(), &made.session.back);
  }
  if (code != 0) {
    bpf_map_delete_elem(maps_.sessions.get(), &made.key);
    return failed(code, "map limpid_cut_udp");
  }
  return {};
}

std::optional<CutThroughTraffic> CutDatagrams::look(const SocketAddress& client,
                                                    const SocketAddress& original_destination) const {
  const auto found = Found::one(maps_, client, original_destination);
  if (!found) return std::nullopt;
  return traffic_of(find_way(maps_, found->key), find_way(maps_, found->session.back), found->session, CutClock::now());
}

void CutDatagrams::add(const SocketAddress& client, const SocketAddress& original_destination, std::uint64_t bytes_up,
                       std::uint64_t bytes_down) {
  const std::lock_guard lock(writing_);
  auto found = Found::one(maps_, client, original_destination);
  if (!found) return;
  found->session.bytes_before[LIMPID_CUT_UP] += bytes_up;
  found->session.bytes_before[LIMPID_CUT_DOWN] += bytes_down;
  bpf_map_update_elem(maps_.sessions.get(), &found->key, &found->session, BPF_EXIST);
}

/// With what its ways have counted to their last moment.
std::optional<CutThroughTraffic> CutDatagrams::remove(const Found& found) {
  const std::lock_guard lock(writing_);
  const auto now = Found::one(maps_, found.key);
  if (!now || now->session.begun_ns != found.session.begun_ns) return std::nullopt;
  std::optional<limpid_cut_datagrams> ways[2];
  for (const int direction : {LIMPID_CUT_UP, LIMPID_CUT_DOWN}) {
    limpid_cut_datagrams way{};
    const limpid_cut_tuple& key = direction == LIMPID_CUT_UP ? now->key : now->session.back;
    if (bpf_map_lookup_and_delete_elem(maps_.datagrams.get(), &key, &way) == 0) ways[direction] = way;
  }
  if (bpf_map_delete_elem(maps_.sessions.get(), &now->key) != 0) return std::nullopt;  // another process was faster
  return traffic_of(ways[LIMPID_CUT_UP], ways[LIMPID_CUT_DOWN], now->session, CutClock::now());
}

std::optional<CutThroughTraffic> CutDatagrams::end(const SocketAddress& client,
                                                   const SocketAddress& original_destination) {
  const auto found = Found::one(maps_, client, original_destination);
  return found ? remove(*found) : std::nullopt;
}

bool CutDatagrams::taken(const SocketAddress& source, const SocketAddress& destination) const {
  return find_way(maps_, tuple_of(source, destination, Transport::udp)).has_value();
}

namespace {

CutThroughSessionRecord record_of(const limpid_cut_tuple& key, const limpid_cut_session& session,
                                  const CutThroughTraffic& traffic, const limpid_cut_tuple& back, bool stopped) {
  CutThroughSessionRecord record;
  record.session.legs = {.client = source_of(key),
                         .original_destination = destination_of(key),
                         .source = destination_of(back),
                         .target = source_of(back)};
  record.session.bytes_up = session.bytes_before[LIMPID_CUT_UP] + traffic.bytes_up;
  record.session.bytes_down = session.bytes_before[LIMPID_CUT_DOWN] + traffic.bytes_down;
  record.session.started_us = session.started_us;
  record.session.source = session.source;
  record.session.answered = traffic.answered;
  record.stopped = stopped;
  const std::int64_t last_us = CutClock::now().wall_us - traffic.idle.count() / 1000;
  record.duration_us = std::max<std::int64_t>(0, last_us - session.started_us);
  return record;
}

}  // namespace

std::chrono::seconds CutDatagrams::patience(const limpid_cut_tuple& key, const CutThroughTraffic& traffic) const {
  if (!traffic.answered) return options_.unanswered_timeout;
  return destination_of(key).port.value == kDnsPort ? options_.dns_timeout : options_.timeout;
}

std::vector<CutThroughSessionRecord> CutDatagrams::list() const {
  const CutClock now = CutClock::now();
  std::vector<CutThroughSessionRecord> records;
  Found::each(maps_, [&](const Found& found) {
    if (found.session.keeper == self_) return;
    const auto traffic =
        traffic_of(find_way(maps_, found.key), find_way(maps_, found.session.back), found.session, now);
    records.push_back(record_of(found.key, found.session, traffic, found.session.back, false));
  });
  return records;
}

bool CutDatagrams::expire(const SocketAddress& client, const SocketAddress& original_destination) {
  const auto found = Found::one(maps_, client, original_destination);
  if (!found || found->session.keeper == self_) return false;
  const auto last = remove(*found);
  if (!last) return false;
  auto record = record_of(found->key, found->session, *last, found->session.back, false);
  record.killed = true;
  const std::lock_guard lock(mutex_);
  expired_.push_back(std::move(record));
  return true;
}

void CutDatagrams::collect(const Sink& sink) {
  std::vector<CutThroughSessionRecord> expired;
  {
    const std::lock_guard lock(mutex_);
    expired.swap(expired_);
  }
  for (const auto& record : expired) sink(record);
  const CutClock now = CutClock::now();
  if (now.monotonic_ns < next_scan_ns_) return;
  const auto shortest = std::min({options_.timeout, options_.unanswered_timeout, options_.dns_timeout}).count();
  next_scan_ns_ =
      now.monotonic_ns + std::clamp<std::uint64_t>(static_cast<std::uint64_t>(shortest) / 2, 0, kScanSeconds) * kSecond;
  Found::each(maps_, [&](const Found& found) {
    if (found.session.keeper == self_) return;
    const auto up = find_way(maps_, found.key);
    const auto down = find_way(maps_, found.session.back);
    const CutThroughTraffic traffic = traffic_of(up, down, found.session, now);
    const bool half_made = (!up || !down) && now.monotonic_ns > found.session.begun_ns + kHalfMadeNs;
    if (!half_made && traffic.idle < patience(found.key, traffic)) return;
    if (const auto last = remove(found)) sink(record_of(found.key, found.session, *last, found.session.back, false));
  });
}

void CutDatagrams::end_if(const std::function<bool(const CutThroughSessionRecord&)>& wanted, const Sink& sink) {
  Found::each(maps_, [&](const Found& found) {
    if (found.session.keeper == self_) return;
    const auto now = look(source_of(found.key), destination_of(found.key));
    if (!now || !wanted(record_of(found.key, found.session, *now, found.session.back, true))) return;
    if (const auto last = remove(found)) sink(record_of(found.key, found.session, *last, found.session.back, true));
  });
}

void CutDatagrams::close(const Sink& sink) {
  {
    const std::lock_guard lock(mutex_);
    for (const auto& record : expired_) sink(record);
    expired_.clear();
  }
  Found::each(maps_, [&](const Found& found) {
    const bool own = found.session.keeper == self_;
    const auto last = remove(found);
    if (last && !own) sink(record_of(found.key, found.session, *last, found.session.back, true));
  });
}

}  // namespace limpid
