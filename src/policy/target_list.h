// TargetList: where a plain relay dials, in order. Its addresses are replaced while workers read them, because names change; a
// flow that cannot reach one of them asks for the next.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "limpid/address.h"

namespace limpid {

struct Target {
  SocketAddress address;
  /// One of this host's own addresses: a server there would answer a client's address directly, past us, so it only ever sees ours.
  bool on_this_host = false;
  auto operator<=>(const Target&) const = default;
};

/// The addresses of each host that the user named, hosts and addresses in order of preference. No host without addresses.
using TargetGroups = std::vector<std::vector<Target>>;

enum class TargetOrder : std::uint8_t {
  as_given,     ///< every flow begins with the first host; the others are for when it fails
  round_robin,  ///< each flow begins with the host behind the one with which the flow before began
};

/// Used by all threads. Readers take a lock for as long as it takes to copy a pointer, once for each connection.
class TargetList {
 public:
  /// `groups` must not be empty.
  TargetList(const TargetGroups& groups, TargetOrder order);

  void replace(const TargetGroups& groups);

  /// Where a new flow begins.
  [[nodiscard]] Target first() noexcept;
  /// Where a flow goes on whose latest of `attempts` attempts, at `failed`, was in vain; empty when it has tried them all.
  [[nodiscard]] std::optional<Target> after(const SocketAddress& failed, unsigned attempts) const noexcept;
  [[nodiscard]] bool contains(const SocketAddress& address) const noexcept;
  /// All of them, in order.
  [[nodiscard]] std::vector<Target> all() const;

 private:
  struct Flat {
    std::vector<Target> targets;      ///< each address once
    std::vector<std::size_t> begins;  ///< where each host's addresses begin in it
  };
  [[nodiscard]] static std::shared_ptr<const Flat> flatten(const TargetGroups& groups);
  [[nodiscard]] std::shared_ptr<const Flat> current() const noexcept;

  TargetOrder order_;
  std::atomic<std::size_t> turn_{0};
  mutable std::mutex mutex_;
  std::shared_ptr<const Flat> flat_;
};

}  // namespace limpid
