// NameHints: which name an address was learnt by, out of DNS answers that passed through the relay (`--dns-hint`). Asked where the first bytes of a flow have no name; a hint
// only, never a reason to dial another address. Shared by all workers.
//
// Theory of operation. Each client has hints of its own, by its address: what one is told says nothing to the flows of others. Everything is bounded. A client that has its part
// loses what it learnt first; when all is full, the client that has the most does, of several the one that has learnt nothing for longest: whoever asks much pushes himself out, and
// nobody who has less. Without memory for one more, all are forgotten.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>

#include "limpid/address.h"
#include "sniff/dns_message.h"

namespace limpid {

class NameHints {
 public:
  /// Clients keep addresses for longer than short times to live say (browsers for a minute), and connections begin at any moment of that.
  static constexpr std::chrono::seconds kLeastKept{60};
  static constexpr std::chrono::seconds kMostKept{3600};
  static constexpr std::size_t kMost = 32'768;  ///< addresses of all clients; some 300 bytes each
  static constexpr std::size_t kMostOfClient = 1024;

  explicit NameHints(std::size_t most = kMost, std::size_t most_of_client = kMostOfClient) noexcept
      : most_(most), most_of_client_(most_of_client) {}

  /// `client` was told so. Of several names with one address, the latest counts.
  void learn(const IpAddress& client, const DnsAnswer& answer, std::uint64_t now_ms) noexcept;
  /// The name by which `client` was told of `address`; nullptr: none, or too long ago.
  [[nodiscard]] std::shared_ptr<const std::string> find(const IpAddress& client, const IpAddress& address,
                                                        std::uint64_t now_ms) const noexcept;
  /// How many addresses are remembered; some may be too old to count.
  [[nodiscard]] std::size_t size() const noexcept;

 private:
  struct Hint {
    IpAddress address;
    std::shared_ptr<const std::string> name;
    std::uint64_t until_ms = 0;
  };
  struct Client {
    std::list<Hint> hints;  ///< the latest learnt first
    std::map<IpAddress, std::list<Hint>::iterator> by_address;
    std::uint64_t latest = 0;  ///< which learning was its last one, of all
  };
  /// Where a client stands among those that may lose something: the last one does.
  struct Rank {
    std::size_t hints;
    std::uint64_t latest;
    IpAddress client;
    bool operator<(const Rank& other) const noexcept {
      return hints != other.hints ? hints < other.hints : latest > other.latest;
    }
  };
  using Clients = std::map<IpAddress, Client>;  ///< ordered, so that nobody can choose addresses that collide

  [[nodiscard]] Clients::iterator client_at(const IpAddress& address);
  void remember(Clients::iterator client, const Hint& hint);
  void drop_oldest(Clients::iterator client) noexcept;
  void make_room(Clients::iterator client) noexcept;
  template <class Change>
  void change_rank(Clients::iterator client, Change change) noexcept;

  std::size_t most_;
  std::size_t most_of_client_;
  mutable std::mutex mutex_;
  Clients clients_;
  std::set<Rank> ranks_;  ///< one for each client
  std::uint64_t learnt_ = 0;
  std::size_t count_ = 0;
};

}  // namespace limpid
