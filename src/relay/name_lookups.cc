// Under one mutex, which nobody holds while he waits for anything: packets of this channel never block, because no more are under way than it takes.
#include "relay/name_lookups.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <iterator>
#include <new>
#include <utility>

#include "relay/clock.h"

namespace limpid {
namespace {

/// Whoever has one address of a /64 has all of them.
IpAddress as_client(const IpAddress& address) noexcept {
  if (address.family() == Family::ipv4) return address;
  auto bytes = address.bytes();
  std::fill(bytes.begin() + 8, bytes.end(), std::uint8_t{0});
  return IpAddress::from_bytes(Family::ipv6, bytes);
}

std::uint64_t milliseconds(std::chrono::seconds time) noexcept {
  return static_cast<std::uint64_t>(std::chrono::milliseconds(time).count());
}

}  // namespace

void NameMailbox::put(const NameNews& news) noexcept {
  const std::lock_guard lock(mutex_);
  if (wake_ < 0) return;
  try {
    waiting_.push_back(news);
  } catch (const std::bad_alloc&) {
    return;
  }
  eventfd_write(wake_, 1);
}

void NameMailbox::take(std::vector<NameNews>& into) {
  const std::lock_guard lock(mutex_);
  into.swap(waiting_);
  waiting_.clear();
}

void NameMailbox::close() noexcept {
  const std::lock_guard lock(mutex_);
  wake_ = -1;
  waiting_.clear();
}

NameLookups::NameLookups(Options options) : options_(std::move(options)) {
  under_way_.reserve(kNamesAtOnce);
  if (auto own = own_addresses()) own_ = std::move(*own);
  thread_ = std::jthread([this] { work(); });
}

NameLookups::~NameLookups() {
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
  }
  shutdown(options_.channel.get(), SHUT_RDWR);
}

void NameLookups::restrict_to(std::span<const Prefix> to, std::span<const Prefix> excluded) {
  RangeSet wanted = to.empty() ? RangeSet::all_addresses() : RangeSet(to);
  RangeSet unwanted(excluded);
  const std::lock_guard lock(mutex_);
  to_ = std::move(wanted);
  excluded_ = std::move(unwanted);
  cache_.clear();
}

NameLookups::Asked NameLookups::ask(std::string_view name, Family family, const IpAddress& client,
                                    std::uint64_t until_ms, const std::shared_ptr<NameMailbox>& mailbox,
                                    const NameAsker& asker) {
  const NameKey key{.name = std::string(name), .family = family};
  const std::lock_guard lock(mutex_);
  if (auto resolved = cache_.find(key, monotonic_ms())) return {.outcome = Outcome::known, .resolved = resolved};
  if (ended_) return {.outcome = Outcome::known, .resolved = nothing_};
  drop_given_up();
  const auto known = std::ranges::find_if(questions_, [&](const auto& each) { return each.second.key == key; });
  if (known != questions_.end()) {
    Question& question = known->second;
    if (question.waiters.size() >= kMostFlows) return {};
    question.waiters.push_back({.mailbox = mailbox, .asker = asker});
    question.until_ms = std::max(question.until_ms, until_ms);
    return {.outcome = Outcome::waiting};
  }
  const IpAddress who = as_client(client);
  const auto of_client = static_cast<std::size_t>(
      std::ranges::count_if(questions_, [&](const auto& each) { return each.second.client == who; }));
  if (questions_.size() >= kMostWaiting || of_client >= kMostWaitingOfClient) return {};
  Question question{.key = key, .client = who, .until_ms = until_ms};
  question.waiters.push_back({.mailbox = mailbox, .asker = asker});
  questions_.emplace_hint(questions_.end(), next_, std::move(question));
  ++next_;
  send_some();
  return {.outcome = Outcome::waiting};
}

/// What was sent keeps its place until the process has answered: that is where it is worked at.
void NameLookups::drop_given_up() {
  const std::uint64_t now_ms = monotonic_ms();
  std::erase_if(questions_, [&](const auto& each) { return !each.second.sent && each.second.until_ms <= now_ms; });
}

/// As many as may be under way.
void NameLookups::send_some() noexcept {
  while (under_way_.size() < kNamesAtOnce) {
    const auto next = next_to_send();
    // What cannot be sent although nothing fills the channel has nobody at its other end: work() hears of that.
    if (next == questions_.end() || !send(next->first, next->second)) return;
    next->second.sent = true;
    under_way_.push_back(next->second.client);
  }
}

/// The oldest of a client of whom the fewest are under way; the end: all that wait are of clients that have their part.
NameLookups::Questions::iterator NameLookups::next_to_send() noexcept {
  auto found = questions_.end();
  std::ptrdiff_t fewest = kAtOnceOfClient;
  for (auto each = questions_.begin(); each != questions_.end() && fewest > 0; ++each) {
    if (each->second.sent) continue;
    const auto of_client = std::ranges::count(under_way_, each->second.client);
    if (of_client >= fewest) continue;
    fewest = of_client;
    found = each;
  }
  return found;
}

bool NameLookups::send(std::uint64_t number, const Question& question) const noexcept {
  NameQuestion packet{.number = number, .ipv6 = question.key.family == Family::ipv6 ? 1U : 0U};
  std::copy_n(question.key.name.begin(), std::min(question.key.name.size(), packet.host.size() - 1),
              packet.host.begin());
  return ::send(options_.channel.get(), &packet, sizeof packet, MSG_NOSIGNAL | MSG_DONTWAIT) ==
         static_cast<ssize_t>(sizeof packet);
}

void NameLookups::work() {
  while (await()) {
    NameAnswer answer;
    const ssize_t received = recv(options_.channel.get(), &answer, sizeof answer, 0);
    if (received < 0 && errno == EINTR) continue;
    if (received != static_cast<ssize_t>(sizeof answer)) break;
    settle(answer);
  }
  end();
}

/// Until there is an answer. False: that cannot be.
bool NameLookups::await() {
  for (;;) {
    const int changes = options_.changes ? options_.changes->descriptor() : -1;
    std::array<pollfd, 2> wanted{pollfd{.fd = options_.channel.get(), .events = POLLIN, .revents = 0},
                                 pollfd{.fd = changes, .events = POLLIN, .revents = 0}};
    if (poll(wanted.data(), wanted.size(), -1) < 0 && errno != EINTR) return false;
    if (wanted[1].revents != 0 && options_.changes->take()) follow_own_addresses();
    if (wanted[0].revents != 0) return true;
  }
}

/// An answer that comes before we hear of a change was judged by the addresses before, and is forgotten here; one that comes later is judged by those of then.
void NameLookups::follow_own_addresses() {
  auto own = own_addresses();
  if (own && *own == own_) return;  // only how long they are valid, for example
  own_ = own ? std::move(*own) : std::vector<IpAddress>();
  const std::lock_guard lock(mutex_);
  cache_.clear();
}

Result<std::vector<IpAddress>> NameLookups::own_addresses() const {
  try {
    return options_.own();
  } catch (const std::bad_alloc&) {
    return failure("read", "own addresses", "no memory");
  }
}

void NameLookups::settle(const NameAnswer& answer) {
  const auto own = own_addresses();
  std::vector<Waiter> waiters;
  std::shared_ptr<const ResolvedName> resolved;
  {
    const std::lock_guard lock(mutex_);
    const auto found = questions_.find(answer.number);
    if (found == questions_.end() || !found->second.sent) return;
    resolved = judge_and_keep(answer, found->second.key, own);
    waiters = std::move(found->second.waiters);
    under_way_.erase(std::ranges::find(under_way_, found->second.client));
    questions_.erase(found);
    drop_given_up();
    send_some();
  }
  tell(waiters, resolved);
}

/// Without memory it leads nowhere.
std::shared_ptr<const ResolvedName> NameLookups::judge_and_keep(const NameAnswer& answer, const NameKey& key,
                                                                const Result<std::vector<IpAddress>>& own) {
  try {
    auto resolved = std::make_shared<const ResolvedName>(judge(answer, key.family, own));
    cache_.put(key, resolved, monotonic_ms() + milliseconds(resolved->addresses.empty() ? kFailureKept : kKept));
    return resolved;
  } catch (const std::bad_alloc&) {
    return nothing_;
  }
}

/// What a client may have named is not only a server: what is ours, and what we would not have taken, is out of reach by a name as well.
ResolvedName NameLookups::judge(const NameAnswer& answer, Family family,
                                const Result<std::vector<IpAddress>>& own) const {
  ResolvedName resolved;
  const std::size_t count = std::min<std::size_t>(answer.count, answer.addresses.size());
  for (std::size_t i = 0; i < count; ++i) {
    const auto address = IpAddress::from_bytes(family, answer.addresses.at(i));
    const bool ours = !own || std::ranges::find(*own, address) != own->end();
    if (ours || address.unmapped() != address || excluded_.contains(to_wide(address)) ||
        !to_.contains(to_wide(address))) {
      resolved.forbidden = true;
    } else {
      resolved.addresses.push_back(address);
    }
  }
  return resolved;
}

void NameLookups::tell(const std::vector<Waiter>& waiters, const std::shared_ptr<const ResolvedName>& resolved) {
  for (const Waiter& waiter : waiters) waiter.mailbox->put({.asker = waiter.asker, .resolved = resolved});
}

/// Nobody answers any more: whoever waits hears that there is nothing.
void NameLookups::end() {
  Questions questions;
  bool wanted = false;
  {
    const std::lock_guard lock(mutex_);
    wanted = std::exchange(ended_, true);
    questions.swap(questions_);
  }
  for (const auto& [number, question] : questions) tell(question.waiters, nothing_);
  if (!wanted && options_.on_end) options_.on_end();
}

}  // namespace limpid
