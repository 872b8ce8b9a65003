// TlsLegs: connections of ours that are TLS on the network and plain for the worker: one end of a socket pair, which is watched, read, written, half-closed
// and closed like any connection. A thread in between does the TLS (OpenSSL), because the kernel's own is not everywhere. Started with the first connection.
//
// What comes out of the plain end first is the outcome: one byte, 0 where the connection and the TLS handshake have succeeded, else an errno, then a sentence
// without line break, then the end. tls_outcome() reads it.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "limpid/error.h"
#include "limpid/unique_fd.h"
#include "relay/leg_addresses.h"
#include "upstream/upstream.h"

namespace limpid {

class TlsLegs {
 public:
  TlsLegs();
  ~TlsLegs();
  TlsLegs(const TlsLegs&) = delete;
  TlsLegs(TlsLegs&&) = delete;
  TlsLegs& operator=(const TlsLegs&) = delete;
  TlsLegs& operator=(TlsLegs&&) = delete;

  /// `connection`: to the upstream, non-blocking, under way. Returns the plain end, non-blocking. Any thread may call.
  [[nodiscard]] Result<UniqueFd> open(UniqueFd connection, const Upstream& upstream);

  /// Of a plain end that open() has returned and that is still open: how many bytes that were written to it the upstream has not acknowledged.
  [[nodiscard]] std::size_t unacknowledged_bytes(int plain) const noexcept;
  /// Of the same: those of its connection to the upstream. Empty where that is closed.
  [[nodiscard]] std::optional<LegAddresses> network_addresses(int plain) const noexcept;
  /// Before a plain end is closed: the upstream gets a reset, as AF_UNIX has none to pass on.
  void give_up(int plain) const noexcept;
  /// Of one that has come to its end: whether its connection has broken, so that the end is not the upstream's.
  [[nodiscard]] bool is_broken(int plain) const noexcept;

 private:
  class Leg;
  class Thread;
  struct Account;
  [[nodiscard]] std::shared_ptr<Account> account_of(int plain) const noexcept;
  [[nodiscard]] Result<UniqueFd> open_or_throw(UniqueFd connection, const Upstream& upstream);
  mutable std::mutex mutex_;
  std::unordered_map<int, std::shared_ptr<Account>> accounts_;  ///< by plain end: until another has its number
  std::unique_ptr<Thread> thread_;
};

/// 0: the connection is there; EINPROGRESS: not known yet; else why not, with its sentence in `cause` where that is asked for. Takes what it reads.
[[nodiscard]] int tls_outcome(int plain, std::string* cause = nullptr) noexcept;

}  // namespace limpid
