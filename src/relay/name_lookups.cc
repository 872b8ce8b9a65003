// Under one mutex, which nobody holds while he waits for anything: packets of this channel never block, because no more are under way than it takes.
#include "relay/name_lookups.h"

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
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

void NameMailbox::put(const NameNews& news) {
  const std::lock_guard lock(mutex_);
  if (wake_ < 0) return;
  waiting_.push_back(news);
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

NameLookups::NameLookups(Options options) : options_(std::move(options)), thread_([this] { work(); }) {}

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
                                    const std::shared_ptr<NameMailbox>& mailbox, const NameAsker& asker) {
  const NameKey key{.name = std::string(name), .family = family};
  const std::lock_guard lock(mutex_);
  if (auto resolved = cache_.find(key, monotonic_ms())) return {.outcome = Outcome::known, .resolved = resolved};
  if (ended_) return {.outcome = Outcome::known, .resolved = std::make_shared<const ResolvedName>()};
  if (const auto known = by_key_.find(key); known != by_key_.end()) {
    auto& waiters = questions_.at(known->second).waiters;
    if (waiters.size() >= kMostFlows) return {};
    waiters.push_back({.mailbox = mailbox, .asker = asker});
    return {.outcome = Outcome::waiting};
  }
  const IpAddress who = as_client(client);
  const auto of_client = static_cast<std::size_t>(
      std::ranges::count_if(questions_, [&](const auto& each) { return each.second.client == who; }));
  if (questions_.size() >= kMostWaiting || of_client >= kMostWaitingOfClient) return {};
  Question question{.key = key, .client = who};
  question.waiters.push_back({.mailbox = mailbox, .asker = asker});
  by_key_.emplace(key, next_);
  questions_.emplace_hint(questions_.end(), next_, std::move(question));
  ++next_;
  send_some();
  return {.outcome = Outcome::waiting};
}

/// As many as may be under way, in order, but none of a client that has its part.
void NameLookups::send_some() {
  for (auto& [number, question] : questions_) {
    if (sent_ >= kNamesAtOnce) return;
    if (question.sent) continue;
    const auto of_client = std::ranges::count_if(
        questions_, [&](const auto& each) { return each.second.sent && each.second.client == question.client; });
    if (of_client >= kAtOnceOfClient) continue;
    // What cannot be sent although nothing fills the channel has nobody at its other end: work() hears of that.
    if (!send(number, question)) return;
    question.sent = true;
    ++sent_;
  }
}

bool NameLookups::send(std::uint64_t number, const Question& question) const {
  NameQuestion packet{.number = number, .ipv6 = question.key.family == Family::ipv6 ? 1U : 0U};
  std::copy_n(question.key.name.begin(), std::min(question.key.name.size(), packet.host.size() - 1),
              packet.host.begin());
  return ::send(options_.channel.get(), &packet, sizeof packet, MSG_NOSIGNAL | MSG_DONTWAIT) ==
         static_cast<ssize_t>(sizeof packet);
}

void NameLookups::work() {
  for (;;) {
    NameAnswer answer;
    const ssize_t received = recv(options_.channel.get(), &answer, sizeof answer, 0);
    if (received < 0 && errno == EINTR) continue;
    if (received != static_cast<ssize_t>(sizeof answer)) return end();
    const auto own = options_.own();
    std::vector<Waiter> waiters;
    std::shared_ptr<const ResolvedName> resolved;
    {
      const std::lock_guard lock(mutex_);
      const auto found = questions_.find(answer.number);
      if (found == questions_.end() || !found->second.sent) continue;
      resolved = std::make_shared<const ResolvedName>(judge(answer, found->second.key.family, own));
      cache_.put(found->second.key, resolved,
                 monotonic_ms() + milliseconds(resolved->addresses.empty() ? kFailureKept : kKept));
      waiters = std::move(found->second.waiters);
      by_key_.erase(found->second.key);
      questions_.erase(found);
      --sent_;
      send_some();
    }
    tell(waiters, resolved);
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
  std::vector<Waiter> waiters;
  bool wanted = false;
  {
    const std::lock_guard lock(mutex_);
    wanted = std::exchange(ended_, true);
    for (auto& [number, question] : questions_) {
      waiters.insert(waiters.end(), std::make_move_iterator(question.waiters.begin()),
                     std::make_move_iterator(question.waiters.end()));
    }
    questions_.clear();
    by_key_.clear();
  }
  tell(waiters, std::make_shared<const ResolvedName>());
  if (!wanted && options_.on_end) options_.on_end();
}

}  // namespace limpid
