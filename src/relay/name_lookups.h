// NameLookups: where the names of flows lead that go by name. Workers ask and go on; the answer comes to their mailbox. What was asked lately is remembered.
//
// Theory of operation. A question is known by name and family, whoever asks: flows that ask the same wait for one answer. As many are sent to the process
// (name_channel.h) as it works at; the others wait. Of these, the next one is the oldest of a client of whom the fewest are under way, and one client has a part of the process
// at most; and what nobody waits for any more is not asked. So names that nobody answers hold up no one else. Everything is bounded; past a bound there is no answer, and the
// flow is refused.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "limpid/error.h"
#include "limpid/prefix.h"
#include "limpid/unique_fd.h"
#include "net/change_watch.h"
#include "policy/range_set.h"
#include "relay/name_cache.h"
#include "relay/name_channel.h"

namespace limpid {

/// Which flow waits.
struct NameAsker {
  std::uint32_t index = 0;
  std::uint32_t generation = 0;
  bool datagrams = false;  ///< it is one of the UDP engine's
};
struct NameNews {
  NameAsker asker;
  std::shared_ptr<const ResolvedName> resolved;
};

/// A worker's: answers that it has not fetched yet.
class NameMailbox {
 public:
  /// `wake`: an eventfd of the worker's, borrowed until close().
  explicit NameMailbox(int wake) noexcept : wake_(wake) {}
  /// Without memory the news is lost: who waits for it gives up by himself.
  void put(const NameNews& news) noexcept;
  void take(std::vector<NameNews>& into);
  /// Nobody reads any more.
  void close() noexcept;

 private:
  std::mutex mutex_;
  int wake_;  ///< -1: closed
  std::vector<NameNews> waiting_;
};

class NameLookups {
 public:
  static constexpr std::chrono::seconds kKept{60};        ///< an answer with addresses
  static constexpr std::chrono::seconds kFailureKept{5};  ///< one without
  static constexpr std::size_t kMostKept = 4096;
  static constexpr std::size_t kMostWaiting = 512;         ///< questions
  static constexpr std::size_t kMostWaitingOfClient = 64;  ///< of those; a client is an IPv4 address, or a /64 of IPv6
  static constexpr unsigned kAtOnceOfClient = kNamesAtOnce / 4;
  static constexpr std::size_t kMostFlows = 1024;  ///< that wait for one answer

  struct Options {
    UniqueFd channel;  ///< to the process
    /// This host's own addresses: no name may lead there. An error: none may be dialled.
    std::function<Result<std::vector<IpAddress>>()> own;
    /// Says when they may have changed: then what is remembered was judged by others. Empty: they do not change.
    std::optional<AddressWatch> changes{};
    /// The process has ended: no name will ever be found again. On the thread of NameLookups.
    std::function<void()> on_end;
  };
  /// Starts its thread: signals that others wait for must be blocked before.
  explicit NameLookups(Options options);
  NameLookups(const NameLookups&) = delete;
  NameLookups& operator=(const NameLookups&) = delete;
  NameLookups(NameLookups&&) = delete;
  NameLookups& operator=(NameLookups&&) = delete;
  ~NameLookups();

  /// Names lead to destinations in `to` (empty: to all) that are not `excluded`. What is remembered is forgotten.
  void restrict_to(std::span<const Prefix> to, std::span<const Prefix> excluded);

  enum class Outcome : std::uint8_t {
    known,    ///< `resolved` says it
    waiting,  ///< the mailbox gets it
    refused   ///< too many questions wait already
  };
  struct Asked {
    Outcome outcome = Outcome::refused;
    std::shared_ptr<const ResolvedName> resolved{};
  };
  /// From any thread; never blocks for longer than another one needs to ask. `name`: a domain name, at most 253 bytes. `until_ms`: when the asker gives up, on the monotonic
  /// clock; he hears nothing then. May throw std::bad_alloc; then nothing was asked.
  [[nodiscard]] Asked ask(std::string_view name, Family family, const IpAddress& client, std::uint64_t until_ms,
                          const std::shared_ptr<NameMailbox>& mailbox, const NameAsker& asker);

 private:
  struct Waiter {
    std::shared_ptr<NameMailbox> mailbox;
    NameAsker asker;
  };
  struct Question {
    NameKey key;
    IpAddress client;            ///< who asked first; the /64 of IPv6
    std::uint64_t until_ms = 0;  ///< when the last of those who wait gives up
    bool sent = false;
    std::vector<Waiter> waiters{};
  };
  using Questions = std::map<std::uint64_t, Question>;  ///< in the order in which they came

  void work();
  [[nodiscard]] bool await();
  void drop_given_up();
  void send_some() noexcept;
  [[nodiscard]] Questions::iterator next_to_send() noexcept;
  [[nodiscard]] bool send(std::uint64_t number, const Question& question) const noexcept;
  void settle(const NameAnswer& answer);
  [[nodiscard]] std::shared_ptr<const ResolvedName> judge_and_keep(const NameAnswer& answer, const NameKey& key,
                                                                   const Result<std::vector<IpAddress>>& own);
  void follow_own_addresses();
  [[nodiscard]] Result<std::vector<IpAddress>> own_addresses() const;
  [[nodiscard]] ResolvedName judge(const NameAnswer& answer, Family family,
                                   const Result<std::vector<IpAddress>>& own) const;
  static void tell(const std::vector<Waiter>& waiters, const std::shared_ptr<const ResolvedName>& resolved);
  void end();

  Options options_;
  std::mutex mutex_;
  NameCache cache_{kMostKept};  ///< under the mutex, as all that follows
  Questions questions_;
  std::vector<IpAddress> under_way_;  ///< of each question that was sent, its client; there is room for all
  std::uint64_t next_ = 1;
  bool ended_ = false;
  RangeSet to_ = RangeSet::all_addresses();
  RangeSet excluded_;
  const std::shared_ptr<const ResolvedName> nothing_ = std::make_shared<const ResolvedName>();
  std::vector<IpAddress> own_;  ///< as last seen; of the thread alone
  std::jthread thread_;         ///< last: it uses all of the above
};

}  // namespace limpid
