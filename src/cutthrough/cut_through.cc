// See cut_through.h. The maps in the kernel are the only state: this object keeps descriptors, a counter for ids, and the set of interfaces.
//
// A flow comes alive when its value is put into map limpid_cut_flow, behind its two entries: both directions at once. It ends the other way round.
// Values of flows belong to the programs from then on; user space changes entries only, so that no count is ever overwritten.
#include "cutthrough/cut_through.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <optional>
#include <set>

#include "cutthrough/cut_attach.h"
#include "cutthrough/cut_programs.h"
#include "cutthrough/cut_reset.h"
#include "cutthrough/cut_values.h"
#include "net/bpf_object.h"

namespace limpid {
namespace {

constexpr int kLoopback = 1;              // LOOPBACK_IFINDEX, include/net/flow.h
constexpr std::uint32_t kAfterReset = 2;  ///< seconds of quiet after a RST of one end, until its tuple is free
constexpr std::uint32_t kScan = 30;    ///< seconds between looks at all flows, for those that are idle or have lingered
constexpr std::uint32_t kPressed = 5;  ///< seconds of lingering when there are many flows
constexpr std::uint32_t kResetting = 10;  ///< seconds in which whoever still sends is told of an end from here

CutLegs legs_of(const CutThroughFlow& flow) {
  return {
      .client = flow.up.from, .original_destination = flow.up.to, .source = flow.up.new_from, .target = flow.up.new_to};
}

std::unexpected<Error> refused(int code, const CutLegs& legs, std::string_view cause) {
  return std::unexpected(Error{.kind = ErrorKind::failure,
                               .code = code,
                               .operation = "cut through",
                               .object = legs.client.to_string() + " to " + legs.target.to_string(),
                               .cause = std::string(cause),
                               .remedy = {}});
}

std::unexpected<Error> no_such_flow(CutThroughId id) {
  return std::unexpected(Error{.kind = ErrorKind::failure,
                               .code = ENOENT,
                               .operation = "find",
                               .object = "cut-through flow " + std::to_string(id.value),
                               .cause = "there is none",
                               .remedy = {}});
}

bool is_finished(const limpid_cut_flow& flow, const limpid_cut_entry& entry) {
  constexpr std::uint32_t kBoth = LIMPID_CUT_FIN_ACKED(LIMPID_CUT_UP) | LIMPID_CUT_FIN_ACKED(LIMPID_CUT_DOWN);
  return finished_ways(flow, entry) == kBoth;
}

/// Not by an end that was done and gone: it answers so what comes twice. A FIN that raced the flip is known of only after that.
bool is_reset(const limpid_cut_flow& flow, const limpid_cut_entry& entry) {
  return (flow.happened & (LIMPID_CUT_RST(LIMPID_CUT_UP) | LIMPID_CUT_RST(LIMPID_CUT_DOWN))) != 0 &&
         !is_finished(flow, entry);
}

bool is_over(const limpid_cut_flow& flow, const limpid_cut_entry& entry) {
  return entry.phase == LIMPID_CUT_LINGERING || entry.phase == LIMPID_CUT_RESETTING ||
         (entry.phase == LIMPID_CUT_ALONE && (is_finished(flow, entry) || is_reset(flow, entry)));
}

/// How a flow that is over came to its end.
CutThroughEnd end_of(const limpid_cut_flow& flow, const limpid_cut_entry& entry) {
  if (is_finished(flow, entry)) return CutThroughEnd::closed;
  if ((flow.happened & LIMPID_CUT_RST(LIMPID_CUT_UP)) != 0) return CutThroughEnd::client_reset;
  if ((flow.happened & (LIMPID_CUT_RST(LIMPID_CUT_DOWN) | LIMPID_CUT_REPLACED)) != 0)
    return CutThroughEnd::target_reset;
  return CutThroughEnd::closed;
}

}  // namespace

struct CutThrough::Kernel {
  CutThroughOptions options;
  CutPrograms programs;
  ResetSender resets;
  std::atomic<std::uint64_t> next_id{1};
  std::atomic<std::uint64_t> alone{0};
  std::atomic<std::uint64_t> all{0};  ///< with those that drain, linger and reset
  std::uint32_t scanned_s = 0;        ///< collect() only
  CutThroughId first_own{};           ///< flows before it are those of a predecessor or of nobody
  std::uint32_t opened_s = 0;
  mutable std::mutex writing;  ///< of entries, by workers, collector and control: all read them first
  std::mutex attaching;        ///< held by whoever goes through the interfaces
  mutable std::mutex linking;
  std::set<int> links;
  std::optional<CutDatagrams> datagrams;  ///< over the maps of `programs`

  void read_links() {
    const std::scoped_lock lock(linking);
    links.clear();
    for (const auto& [index, facts] : all_links(programs.maps)) links.insert(index);
  }
  [[nodiscard]] bool has_program(int link) const {
    const std::scoped_lock lock(linking);
    return links.contains(link);
  }

  void watch(CutThroughId id) const { add_news(programs.maps, id); }
  /// With many flows, each second frees some.
  [[nodiscard]] std::uint32_t seconds_between_scans() const {
    const auto shortest = std::min({options.idle_timeout, options.half_closed_timeout, options.linger});
    return is_pressed() ? 1 : static_cast<std::uint32_t>(std::clamp<std::int64_t>(shortest.count() / 2, 0, kScan));
  }
  [[nodiscard]] bool is_pressed() const { return all.load(std::memory_order_relaxed) > options.most_flows / 2; }

  [[nodiscard]] Status check_ways(Transport transport, const CutLegs& legs) const;
  [[nodiscard]] Status claim(const limpid_cut_tuple& tuple, const limpid_cut_entry& entry, const CutThroughFlow& flow);
  void forget(CutThroughId id, const limpid_cut_flow& flow);  ///< under `writing`
  void release(const limpid_cut_tuple& tuple, CutThroughId id) const;
  /// Writes a flow's entries anew, where they are still its own.
  [[nodiscard]] Status change(CutThroughId id, const limpid_cut_flow& flow,
                              const std::function<void(limpid_cut_entry&)>& how) const;
  void remove(CutThroughId id, const limpid_cut_flow& flow);
  [[nodiscard]] Status reset(CutThroughId id, const limpid_cut_flow& flow, bool recorded, const CutClock& now);
  void collect_one(CutThroughId id, const limpid_cut_flow& flow, const CutClock& now,
                   const std::function<void(const CutThroughRecord&)>& sink);
};

/// Both ways must lead through interfaces at which our programs are: asked of the very look-up that they will do.
Status CutThrough::Kernel::check_ways(Transport transport, const CutLegs& legs) const {
  const auto& [client, dialled, source, target] = legs;
  const auto there = try_way_out(programs, transport, dialled, client, kLoopback, 0);
  if (!there) return std::unexpected(there.error());
  const auto to_target =
      *there == 0 ? Result<int>(0) : try_way_out(programs, transport, source, target, *there, options.mark);
  if (!to_target) return std::unexpected(to_target.error());
  const auto to_client =
      *to_target == 0 ? Result<int>(0) : try_way_out(programs, transport, dialled, client, *to_target, 0);
  if (!to_client) return std::unexpected(to_client.error());
  if (*to_client == 0) return refused(ENETUNREACH, legs, "no route that forwards, or one end is this host");
  if (!has_program(*to_client) || !has_program(*to_target))
    return refused(ENETUNREACH, legs, "its way leads through an interface without the programs");
  return {};
}

Status CutThrough::Kernel::claim(const limpid_cut_tuple& tuple, const limpid_cut_entry& entry,
                                 const CutThroughFlow& flow) {
  int code = bpf_map_update_elem(programs.maps.ways.get(), &tuple, &entry, BPF_NOEXIST);
  if (code == -EEXIST) {
    const auto other = find_entry(programs.maps, tuple);
    const auto owner = other ? find_flow(programs.maps, CutThroughId{other->flow}) : std::nullopt;
    if (other && owner && !is_over(*owner, *other))
      return refused(EEXIST, legs_of(flow), "another flow has one of its tuples");
    // One that has been recorded goes with its tuple; another waits for collect(), which does not need the entry.
    if (other && owner && other->recorded != 0) forget(CutThroughId{other->flow}, *owner);
    code = bpf_map_update_elem(programs.maps.ways.get(), &tuple, &entry, BPF_ANY);
  }
  if (code == -E2BIG) return refused(ENOSPC, legs_of(flow), "there are as many flows as the maps hold");
  if (code != 0) return bpf_error(-code, "write to", "map limpid_cut_ways");
  return {};
}

void CutThrough::Kernel::release(const limpid_cut_tuple& tuple, CutThroughId id) const {
  const auto entry = find_entry(programs.maps, tuple);
  if (entry && entry->flow == id.value) bpf_map_delete_elem(programs.maps.ways.get(), &tuple);
}

Status CutThrough::Kernel::change(CutThroughId id, const limpid_cut_flow& flow,
                                  const std::function<void(limpid_cut_entry&)>& how) const {
  const std::scoped_lock lock(writing);
  for (const limpid_cut_way& way : flow.ways) {
    auto entry = find_entry(programs.maps, way.from);
    if (!entry || entry->flow != id.value) return no_such_flow(id);
    how(*entry);
    if (const int code = bpf_map_update_elem(programs.maps.ways.get(), &way.from, &*entry, BPF_EXIST); code != 0)
      return bpf_error(-code, "write to", "map limpid_cut_ways");
  }
  return {};
}

void CutThrough::Kernel::remove(CutThroughId id, const limpid_cut_flow& flow) {
  const std::scoped_lock lock(writing);
  forget(id, flow);
}

void CutThrough::Kernel::forget(CutThroughId id, const limpid_cut_flow& flow) {
  if (bpf_map_delete_elem(programs.maps.flows.get(), &id.value) == 0) all.fetch_sub(1, std::memory_order_relaxed);
  for (const limpid_cut_way& way : flow.ways) release(way.from, id);
}

Status CutThrough::Kernel::reset(CutThroughId id, const limpid_cut_flow& flow, bool recorded, const CutClock& now) {
  auto changed = change(id, flow, [&](limpid_cut_entry& entry) {
    entry.phase = LIMPID_CUT_RESETTING;
    entry.since_s = now.seconds();
    entry.recorded = recorded ? 1 : entry.recorded;
  });
  resets.send(flow);
  return changed;
}

/// One flow's way through the phases after its sockets have gone.
void CutThrough::Kernel::collect_one(CutThroughId id, const limpid_cut_flow& flow, const CutClock& now,
                                     const std::function<void(const CutThroughRecord&)>& sink) {
  const auto up = find_entry(programs.maps, flow.ways[LIMPID_CUT_UP].from);
  const bool own = up && up->flow == id.value;
  const auto record = [&](CutThroughEnd end) {
    alone.fetch_sub(1, std::memory_order_relaxed);
    sink(record_of(id, flow, end, now));
  };
  if (!own) {  // a new connection took its tuple; perhaps just now
    const auto last = find_flow(programs.maps, id);
    if (!last) return;
    if ((last->happened & LIMPID_CUT_FORGOTTEN_RECORDED) == 0)
      record(end_of(*last, {}));  // forget() has kept what the entry knew
    remove(id, *last);
    return;
  }
  const CutThroughState state = state_of(flow, *up, now);
  const auto idle = std::chrono::duration_cast<std::chrono::seconds>(state.idle);
  const std::uint32_t since = now.seconds() - up->since_s;
  switch (up->phase) {
    case LIMPID_CUT_ALONE: break;
    case LIMPID_CUT_LINGERING:
      if (since >= (is_pressed() ? std::min<std::int64_t>(kPressed, options.linger.count()) : options.linger.count()))
        remove(id, flow);
      return;
    case LIMPID_CUT_RESETTING:
      if (up->recorded == 0) {
        record(is_reset(flow, *up) ? end_of(flow, *up) : CutThroughEnd::stopped);
        std::ignore = change(id, flow, [](limpid_cut_entry& entry) { entry.recorded = 1; });
      } else if (since >= kResetting) {
        remove(id, flow);
      }
      return;
    default:  // draining: the sockets' owner looks after it, if there still is one
      if (id < first_own && now.seconds() - opened_s > options.predecessor_stays.count())
        std::ignore = reset(id, flow, false, now);
      return;
  }
  if (is_reset(flow, *up)) {
    if (idle.count() < kAfterReset) return watch(id);
    record(end_of(flow, *up));
    remove(id, flow);
  } else if (state.closed) {
    record(CutThroughEnd::closed);
    std::ignore = change(id, flow, [&](limpid_cut_entry& entry) {
      entry.phase = LIMPID_CUT_LINGERING;
      entry.since_s = now.seconds();
      entry.recorded = 1;
    });
  } else if ((flow.happened & LIMPID_CUT_REPLACED) != 0) {
    record(CutThroughEnd::target_reset);
    std::ignore = reset(id, flow, true, now);
  } else if (idle >=
             (state.client_finished || state.target_finished ? options.half_closed_timeout : options.idle_timeout)) {
    record(CutThroughEnd::idle_timeout);
    std::ignore = reset(id, flow, true, now);
  }
}

CutThrough::CutThrough(std::unique_ptr<Kernel> kernel) : kernel_(std::move(kernel)) {}
CutThrough::~CutThrough() = default;

Result<std::unique_ptr<CutThrough>> CutThrough::open(const CutThroughOptions& options) {
  auto kernel = std::make_unique<Kernel>();
  kernel->options = options;
  auto left = find_attached(options.name);
  if (!left) return std::unexpected(left.error());
  CutMaps kept;
  if (*left && (*left)->owner.version == LIMPID_CUT_VERSION) kept = std::move((*left)->maps);
  const bool succeeds = options.predecessor_stays.count() > 0;
  if (succeeds && *left && (*left)->owner.version != LIMPID_CUT_VERSION) {
    return failure("take over", "cut-through", "the running instance has another version of its programs",
                   "restart instead");
  }
  auto programs = CutPrograms::load(options, kept);
  if (!programs) return std::unexpected(programs.error());
  kernel->programs = std::move(*programs);
  auto resets = ResetSender::open(options.mark);
  if (!resets) return std::unexpected(resets.error());
  kernel->resets = std::move(*resets);
  const auto attached = attach_to_links(kernel->programs, options);
  if (!attached) {
    if (!*left) std::ignore = detach_everywhere(options.name);
    return std::unexpected(attached.error());
  }
  kernel->read_links();
  kernel->datagrams.emplace(kernel->programs.maps, options.datagrams,
                            [&own = *kernel](const CutLegs& legs) { return own.check_ways(Transport::udp, legs); });
  const CutClock now = CutClock::now();
  for (const CutThroughId id : all_flows(kernel->programs.maps)) {
    const auto flow = find_flow(kernel->programs.maps, id);
    if (!flow) continue;
    kernel->next_id = std::max(kernel->next_id.load(), id.value + 1);
    ++kernel->all;
    const auto entry = find_entry(kernel->programs.maps, flow->ways[LIMPID_CUT_UP].from);
    const bool own = entry && entry->flow == id.value;
    // It may have been forgotten since it was read.
    const auto last = own ? flow : find_flow(kernel->programs.maps, id);
    if (own ? entry->recorded == 0 : last && (last->happened & LIMPID_CUT_FORGOTTEN_RECORDED) == 0) ++kernel->alone;
    // Its sockets died with the process: what they still had to deliver is lost.
    if (own && entry->phase == LIMPID_CUT_DRAINING && !succeeds) std::ignore = kernel->reset(id, *flow, false, now);
  }
  kernel->first_own = CutThroughId{kernel->next_id.load()};
  kernel->opened_s = now.seconds();
  return std::unique_ptr<CutThrough>(new CutThrough(std::move(kernel)));
}

Result<CutThroughId> CutThrough::begin(const CutThroughFlow& flow) {
  auto made = make_flow(flow, CutClock::now());
  if (!made) return std::unexpected(made.error());
  if (auto checked = kernel_->check_ways(Transport::tcp, legs_of(flow)); !checked)
    return std::unexpected(checked.error());
  const CutThroughId id{kernel_->next_id.fetch_add(1, std::memory_order_relaxed)};
  limpid_cut_entry entry{};
  entry.flow = id.value;
  entry.phase = LIMPID_CUT_DRAINING;
  const std::scoped_lock lock(kernel_->writing);
  for (const int direction : {LIMPID_CUT_UP, LIMPID_CUT_DOWN}) {
    entry.direction = static_cast<std::uint8_t>(direction);
    if (auto claimed = kernel_->claim(made->ways[direction].from, entry, flow); !claimed) {
      if (direction == LIMPID_CUT_DOWN) kernel_->release(made->ways[LIMPID_CUT_UP].from, id);
      return std::unexpected(claimed.error());
    }
  }
  if (const int code = bpf_map_update_elem(kernel_->programs.maps.flows.get(), &id.value, &*made, BPF_NOEXIST);
      code != 0) {
    for (const limpid_cut_way& way : made->ways) kernel_->release(way.from, id);
    if (code == -E2BIG) return refused(ENOSPC, legs_of(flow), "there are as many flows as the maps hold");
    return bpf_error(-code, "write to", "map limpid_cut_flow");
  }
  kernel_->all.fetch_add(1, std::memory_order_relaxed);
  return id;
}

Status CutThrough::settle(CutThroughId id, CutThroughFins fins) {
  const auto flow = find_flow(kernel_->programs.maps, id);
  if (!flow) return no_such_flow(id);
  bool was_draining = true;
  kernel_->alone.fetch_add(1, std::memory_order_relaxed);  // before anybody can see it, and record its end
  auto changed = kernel_->change(id, *flow, [&](limpid_cut_entry& entry) {
    if (!(was_draining = entry.phase == LIMPID_CUT_DRAINING)) return;
    entry.phase = LIMPID_CUT_ALONE;
    entry.finished = static_cast<std::uint8_t>((fins.client ? 1U << LIMPID_CUT_UP : 0U) |
                                               (fins.target ? 1U << LIMPID_CUT_DOWN : 0U));
  });
  if (!changed || !was_draining) {
    kernel_->alone.fetch_sub(1, std::memory_order_relaxed);
    return changed ? no_such_flow(id) : std::move(changed);
  }
  // It may have ended already, and the news of it been heard while it was draining.
  const auto now = find_flow(kernel_->programs.maps, id);
  if (!now || now->happened != 0 || fins.client || fins.target) kernel_->watch(id);
  return {};
}

Status CutThrough::release(CutThroughId id) {
  const auto flow = find_flow(kernel_->programs.maps, id);
  if (!flow) return no_such_flow(id);
  return kernel_->change(id, *flow, [](limpid_cut_entry& entry) { entry.released = 1; });
}

Status CutThrough::end(CutThroughId id, bool leaves_record) {
  const auto flow = find_flow(kernel_->programs.maps, id);
  if (!flow) return no_such_flow(id);
  const auto entry = find_entry(kernel_->programs.maps, flow->ways[LIMPID_CUT_UP].from);
  if (!entry || entry->flow != id.value) return no_such_flow(id);
  auto ended = kernel_->reset(id, *flow, entry->phase == LIMPID_CUT_DRAINING && !leaves_record, CutClock::now());
  kernel_->watch(id);
  return ended;
}

Result<CutThroughState> CutThrough::look(CutThroughId id) const {
  const auto flow = find_flow(kernel_->programs.maps, id);
  if (!flow) return no_such_flow(id);
  const auto entry = find_entry(kernel_->programs.maps, flow->ways[LIMPID_CUT_UP].from);
  if (!entry || entry->flow != id.value) return no_such_flow(id);
  return state_of(*flow, *entry, CutClock::now());
}

bool CutThrough::taken(const SocketAddress& source, const SocketAddress& destination) const {
  const auto entry = find_entry(kernel_->programs.maps, tuple_of(source, destination));
  if (!entry) return false;
  const auto flow = find_flow(kernel_->programs.maps, CutThroughId{entry->flow});
  return flow && !is_over(*flow, *entry);
}

std::vector<CutThroughRecord> CutThrough::list() const {
  const CutClock now = CutClock::now();
  std::vector<CutThroughRecord> records;
  for (const CutThroughId id : all_flows(kernel_->programs.maps)) {
    const auto flow = find_flow(kernel_->programs.maps, id);
    if (!flow) continue;
    const auto entry = find_entry(kernel_->programs.maps, flow->ways[LIMPID_CUT_UP].from);
    if (entry && entry->flow == id.value && entry->phase == LIMPID_CUT_ALONE)
      records.push_back(record_of(id, *flow, end_of(*flow, *entry), now));
  }
  return records;
}

Status CutThrough::collect(const std::function<void(const CutThroughRecord&)>& sink) {
  const CutClock now = CutClock::now();
  std::vector<CutThroughId> due = take_news(kernel_->programs.maps);
  // The difference, because seconds wrap around.
  if (now.seconds() - kernel_->scanned_s >= kernel_->seconds_between_scans()) {
    kernel_->scanned_s = now.seconds();
    std::ranges::copy(all_flows(kernel_->programs.maps), std::back_inserter(due));
  }
  std::ranges::sort(due);
  const auto twice = std::ranges::unique(due);
  due.erase(twice.begin(), twice.end());
  for (const CutThroughId id : due) {
    if (const auto flow = find_flow(kernel_->programs.maps, id)) kernel_->collect_one(id, *flow, now, sink);
  }
  return {};
}

CutDatagrams& CutThrough::datagrams() noexcept {
  return *kernel_->datagrams;
}

std::uint64_t CutThrough::flows() const noexcept {
  return kernel_->alone.load(std::memory_order_relaxed);
}

Result<std::vector<std::string>> CutThrough::on_link_change() {
  const std::scoped_lock lock(kernel_->attaching);
  auto names = attach_to_links(kernel_->programs, kernel_->options);
  kernel_->read_links();
  return names;
}

Result<std::vector<std::pair<std::string, std::uint64_t>>> CutThrough::counters() const {
  static constexpr std::array<const char*, LIMPID_CUT_COUNTS> kNames = {
      "forwarded", "cloned", "errors translated", "too big", "expired", "fragments", "no way", "resets", "failed"};
  const auto totals = read_counters(kernel_->programs.maps);
  if (!totals) return std::unexpected(totals.error());
  std::vector<std::pair<std::string, std::uint64_t>> named;
  for (std::size_t i = 0; i < totals->size(); ++i) named.emplace_back(kNames[i], (*totals)[i]);
  return named;
}

Status CutThrough::close(const std::function<void(const CutThroughRecord&)>& sink) {
  const CutClock now = CutClock::now();
  for (const CutThroughId id : all_flows(kernel_->programs.maps)) {
    const auto flow = find_flow(kernel_->programs.maps, id);
    if (!flow) continue;
    kernel_->collect_one(id, *flow, now, sink);
    const auto entry = find_entry(kernel_->programs.maps, flow->ways[LIMPID_CUT_UP].from);
    if (!entry || entry->flow != id.value || entry->phase == LIMPID_CUT_LINGERING) continue;
    if (entry->recorded == 0 && entry->phase != LIMPID_CUT_DRAINING) {
      kernel_->alone.fetch_sub(1, std::memory_order_relaxed);
      sink(record_of(id, *flow, is_reset(*flow, *entry) ? end_of(*flow, *entry) : CutThroughEnd::stopped, now));
    }
    std::ignore = kernel_->reset(id, *flow, true, now);
  }
  auto detached = detach_everywhere(kernel_->options.name);
  return detached ? Status() : std::unexpected(detached.error());
}

Result<bool> remove_cut_through(const std::string& name) {
  const auto left = find_attached(name);
  if (!left) return std::unexpected(left.error());
  if (*left && (*left)->owner.version == LIMPID_CUT_VERSION && (*left)->maps.complete()) {
    auto resets = ResetSender::open(0);
    if (!resets) return std::unexpected(resets.error());
    for (const CutThroughId id : all_flows((*left)->maps)) {
      const auto flow = find_flow((*left)->maps, id);
      if (!flow) continue;
      const auto entry = find_entry((*left)->maps, flow->ways[LIMPID_CUT_UP].from);
      if (entry && entry->flow == id.value && !is_over(*flow, *entry)) resets->send(*flow);
    }
  }
  return detach_everywhere(name);
}

}  // namespace limpid
