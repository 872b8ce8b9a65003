// UpstreamCheck: one question to one upstream, whether it is there. A connection, as much of its handshake as asks for nothing, or, with a check target, a
// connection to that; all of it through a hop, where the upstream is reached via others. Owned by UpstreamChecks, which waits for its socket.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "limpid/unique_fd.h"
#include "relay/tls_legs.h"
#include "upstream/group.h"
#include "upstream/handshake.h"

namespace limpid {

class UpstreamCheck {
 public:
  /// Dials. `mark` is the bypass mark.
  UpstreamCheck(const UpstreamGroup& group, unsigned member, std::uint32_t mark, TlsLegs& tls);

  /// Empty while it is under way.
  [[nodiscard]] std::optional<bool> healthy() const noexcept { return healthy_; }
  /// Why it is not healthy; "no answer in time" while it is under way.
  [[nodiscard]] const std::string& cause() const noexcept { return cause_; }
  /// What the connection took, that of the hop included; 0: there was none.
  [[nodiscard]] std::uint64_t connected_us() const noexcept { return connected_us_; }
  /// What to wait for with poll(2).
  [[nodiscard]] int descriptor() const noexcept { return fd_.get(); }
  [[nodiscard]] std::int16_t wanted() const noexcept;
  void step();

 private:
  struct Words {
    Handshake handshake;
    bool only_authorization;  ///< what it asks for behind that is never sent
    bool is_hop;
  };
  void encrypt(const Upstream& upstream, TlsLegs& tls);
  void dial(const Upstream& upstream, const SocketAddress& to, std::uint32_t mark, TlsLegs& tls);
  [[nodiscard]] bool go_on();
  [[nodiscard]] bool say();
  [[nodiscard]] bool hear();
  void fail(std::string_view cause);
  [[nodiscard]] std::uint64_t passed_us() const noexcept;

  TlsLegs& tls_;
  const Upstream* behind_hop_ = nullptr;  ///< TLS with it begins when the hop has made the way; nullptr: none does
  UniqueFd fd_;
  std::deque<Words> words_;  ///< one after the other; empty: a connection is all
  std::chrono::steady_clock::time_point began_;
  std::uint64_t connected_us_ = 0;
  bool encrypted_ = false;
  bool connected_ = false;
  std::optional<bool> healthy_;
  std::string cause_ = "no answer in time";
};

}  // namespace limpid
