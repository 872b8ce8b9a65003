// Starts the workers and divides the file descriptors among what needs them.
#include "relay/relay.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

namespace limpid {
namespace {

/// Left for everything else: running nft at the end takes six, the rest is for log files and the unexpected.
constexpr std::size_t kSpareDescriptors = 16;
constexpr std::size_t kDescriptorsPerWorker = 3;  // epoll, eventfd and the acceptor's reserve
constexpr std::size_t kMostPipesPerWorker = 64;
constexpr std::size_t kFewestFlows = 4;
/// Of the descriptors: a UDP session needs one, and a flood of them must leave TCP its share.
constexpr std::size_t kUdpShare = 4;
constexpr std::size_t kUdpSessionsPerSource = 1024;
/// The engine's epoll and two raw senders.
constexpr std::size_t kUdpDescriptorsPerWorker = 3;

/// Without /proc, after chroot(2): the lowest numbers are given out first, so a long run of free ones is the end.
std::size_t probe_open_descriptors() {
  constexpr int kLongRun = 256;
  std::size_t count = 0;
  for (int fd = 0, free_run = 0; free_run < kLongRun; ++fd) {
    const bool open = fcntl(fd, F_GETFD) >= 0;
    if (open) ++count;
    free_run = open ? 0 : free_run + 1;
  }
  return count;
}

std::size_t count_open_descriptors() {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return probe_open_descriptors();
  std::size_t count = 0;
  while (readdir(directory) != nullptr) ++count;  // NOLINT(concurrency-mt-unsafe): a stream of our own
  closedir(directory);
  return count - std::min<std::size_t>(count, 3);  // ".", ".." and the directory itself
}

struct Budget {
  std::size_t flows = 0;
  std::size_t udp_sessions = 0;
  std::size_t pipes_per_worker = 0;
};

bool uses_tls(const UpstreamGroupOptions& group) {
  return std::ranges::any_of(group.members, [](const Upstream& member) { return member.tls.used; });
}

/// In how many links of its way a flow may have TLS: 0 to 2.
std::size_t tls_links(const UpstreamGroups* groups) {
  std::size_t most = 0;
  for (const std::uint16_t number : groups != nullptr ? groups->at_work() : std::vector<std::uint16_t>()) {
    const UpstreamGroup& group = groups->at(number);
    const bool first = group.via() != nullptr && uses_tls(group.via()->options());
    most = std::max<std::size_t>(most, (first ? 1U : 0U) + (uses_tls(group.options()) ? 1U : 0U));
  }
  return most;
}

Result<Budget> divide_descriptors(std::size_t workers, bool udp, const RelayOptions& wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return system_error(errno, "read RLIMIT_NOFILE", "");
  const std::size_t own = workers * (kDescriptorsPerWorker + (udp ? kUdpDescriptorsPerWorker : 0));
  const std::size_t used = count_open_descriptors() + kSpareDescriptors + own;
  std::size_t available = limit.rlim_cur - std::min<std::size_t>(limit.rlim_cur, used);
  Budget budget;
  if (udp) {
    // Through an upstream, each has a control connection as well. A reload that brings the first upstream finds fewer descriptors than it should.
    const std::size_t each = wanted.upstreams && !wanted.upstreams->at_work().empty() ? 2 : 1;
    budget.udp_sessions = available / kUdpShare / each;
    if (wanted.udp.limits.total != 0) budget.udp_sessions = std::min(budget.udp_sessions, wanted.udp.limits.total);
    budget.udp_sessions = std::max(budget.udp_sessions, workers);
    available -= std::min(available, budget.udp_sessions * each);
  }
  // An eighth for pipes: a burst uses two descriptors on top of its flow's two, and few flows burst at one time.
  budget.pipes_per_worker = std::min(kMostPipesPerWorker, available / 16 / workers);
  // Between a TLS leg and the network there is a socket pair; with TLS in both links of a chain, there are two.
  const std::size_t each_flow = 2 + 2 * tls_links(wanted.upstreams.get());
  budget.flows = (available - std::min(available, budget.pipes_per_worker * workers * 2)) / each_flow;
  if (budget.flows < kFewestFlows) {
    return failure("start relay", "", "the limit of open files is too small for any flow", "raise it: ulimit -n 20000");
  }
  if (wanted.max_flows != 0) budget.flows = std::min(budget.flows, wanted.max_flows);
  return budget;
}

/// The kernel spreads a client's ports over the workers, so each gets its part of every limit, rounded up.
UdpOptions part_of_one_worker(const RelayOptions& options, const Budget& budget, std::size_t workers) {
  UdpOptions udp = options.udp;
  udp.rules = options.rules;
  udp.timeouts.sniff = options.timeouts.sniff;
  udp.upstreams = options.upstreams;
  const std::size_t per_source = udp.limits.per_source != 0 ? udp.limits.per_source : kUdpSessionsPerSource;
  udp.limits = {.total = budget.udp_sessions / workers, .per_source = (per_source + workers - 1) / workers};
  return udp;
}

}  // namespace

Result<std::unique_ptr<Relay>> Relay::start(const RelayOptions& options, std::vector<WorkerListeners> listeners) {
  std::unique_ptr<Relay> relay(new Relay());
  relay->shared_.record_event = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  relay->shared_.finished_event = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!relay->shared_.record_event.valid() || !relay->shared_.finished_event.valid())
    return system_error(errno, "create eventfd", "");
  const bool udp = std::ranges::any_of(listeners, [](const WorkerListeners& own) { return !own.udp.empty(); });
  const auto budget = divide_descriptors(listeners.size(), udp, options);
  if (!budget) return std::unexpected(budget.error());
  relay->max_flows_ = budget->flows;
  relay->upstreams_ = options.upstreams;
  relay->hints_ = options.hints;
  relay->offload_ = options.offload;
  relay->judge_ = std::make_unique<Decider>(options.policy, options.rules);
  WorkerOptions worker_options{.policy = options.policy,
                               .rules = options.rules,
                               .sniff_bytes = options.sniff_bytes,
                               .target_leg = options.target_leg,
                               .timeouts = options.timeouts,
                               .max_flows = relay->max_flows_,
                               .max_pipes = budget->pipes_per_worker,
                               .once = options.once,
                               .udp = part_of_one_worker(options, *budget, listeners.size()),
                               .offload = options.hands_over ? options.offload : nullptr,
                               .offload_age = options.offload_age,
                               .upstreams = options.upstreams,
                               .introducers = options.introducers,
                               .local_ends = options.local_ends,
                               .names = options.names,
                               .hints = options.hints};
  for (auto& own_listeners : listeners) {
    worker_options.number = static_cast<std::uint16_t>(relay->workers_.size());
    auto worker = Worker::create(worker_options, relay->shared_, std::move(own_listeners));
    if (!worker) return std::unexpected(worker.error());
    relay->workers_.push_back(std::move(*worker));
  }
  if (!options.waits) relay->begin();
  return relay;
}

Relay::~Relay() {
  stop();
  threads_.clear();
}

void Relay::drain() noexcept {
  for (auto& worker : workers_) worker->drain();
  if (collector_) collector_->hurry();
}

void Relay::stop() noexcept {
  for (auto& worker : workers_) worker->stop();
}

bool Relay::finished() const noexcept {
  return std::ranges::all_of(workers_, [](const auto& worker) { return worker->finished(); });
}

std::optional<FlowEnd> Relay::last_end() const noexcept {
  for (const auto& worker : workers_) {
    if (worker->last_end()) return worker->last_end();
  }
  return std::nullopt;
}

std::uint64_t Relay::count(Counter counter) const noexcept {
  std::uint64_t sum = 0;
  for (const auto& worker : workers_) sum += worker->counters().get(counter);
  if (collector_) sum += collector_->counters().get(counter);
  if (counter == Counter::access_log_dropped) sum += lost_records_.load(std::memory_order_relaxed);
  return sum;
}

std::uint64_t Relay::stayed(StayReason reason) const noexcept {
  std::uint64_t sum = 0;
  for (const auto& worker : workers_) sum += worker->stayed(reason);
  return sum;
}

std::size_t Relay::open_flows() const noexcept {
  const auto with_sockets = shared_.open_flows.load(std::memory_order_relaxed);
  const auto leaving = shared_.leaving.load(std::memory_order_relaxed);
  return with_sockets - std::min(with_sockets, leaving) + offloaded_flows();
}

std::size_t Relay::open_sessions() const noexcept {
  // Ends are read first: a session that ends meanwhile is still open for this answer.
  const auto ended = count(Counter::udp_sessions_ended);
  const auto begun =
      count(Counter::udp_sessions_total) + adopted_sessions() - std::min(adopted_sessions(), counted_sessions_);
  return begun - std::min(begun, ended);
}

std::size_t Relay::adopted_flows() const noexcept {
  return collector_ != nullptr ? offload_->adopted() : 0;
}

std::size_t Relay::adopted_sessions() const noexcept {
  return collector_ != nullptr ? offload_->adopted_sessions() : 0;
}

void Relay::end_offloaded() {
  if (collector_) collector_->close();
}

void Relay::take_records(const std::function<void(const FlowRecord&)>& consume) {
  FlowRecord record;
  for (auto& worker : workers_) {
    while (worker->records().pop(record)) consume(record);
  }
  while (collector_ && collector_->records().pop(record)) consume(record);
}

void Relay::wait_for_records(std::chrono::milliseconds timeout) {
  shared_.reader_waits.store(true, std::memory_order_release);
  pollfd wanted{.fd = shared_.record_event.get(), .events = POLLIN, .revents = 0};
  poll(&wanted, 1, static_cast<int>(timeout.count()));
  eventfd_t ignored = 0;
  eventfd_read(shared_.record_event.get(), &ignored);
}

void Relay::wake_reader() noexcept {
  eventfd_write(shared_.record_event.get(), 1);
}

}  // namespace limpid
