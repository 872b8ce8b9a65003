// DnsWatch: reads the DNS of one UDP session or TCP flow on its way, so that names are learnt out of answers (`--dns-hint`). It changes nothing of what passes.
//
// Theory of operation. An answer counts if it is to a question that the same client has asked in the same session: the same id, name and type, to where the answer comes from. Each
// question has one answer. The latest few questions are remembered; an answer to an older one, or a second one, teaches nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "limpid/address.h"
#include "relay/name_hints.h"

namespace limpid {

inline constexpr Port kDnsPort{53};

/// Messages of one direction of a TCP connection, each behind its length (RFC 1035 section 4.2.2). Keeps what has come of the one that is not whole yet.
class DnsFrames {
 public:
  /// What is longer is passed over: few answers with addresses are.
  static constexpr std::size_t kMostBytes = 4096;
  /// `use` gets each message that is whole. May throw std::bad_alloc; then no more are read.
  template <class Use>
  void take(std::span<const std::byte> bytes, Use use);

 private:
  /// Moves what a message still wants out of `bytes`. True: it is whole.
  bool fill(std::span<const std::byte>& bytes);
  std::vector<std::byte> partial_;  ///< with the length in front
  std::size_t skipped_ = 0;         ///< of a message that is too long: what is still to come
};

class DnsWatch {
 public:
  explicit DnsWatch(NameHints& hints) noexcept : hints_(hints) {}

  /// The client's message, sent on to `target`.
  void note_question(std::span<const std::byte> message, const SocketAddress& target) noexcept;
  /// A message for the client that came `from` there. True: names were learnt from it.
  bool learn(std::span<const std::byte> message, const SocketAddress& from, const IpAddress& client,
             std::uint64_t now_ms) noexcept;

  /// The same for what passes on a connection; the second one says how many messages taught something.
  void take_up(std::span<const std::byte> bytes, const SocketAddress& target) noexcept;
  std::size_t take_down(std::span<const std::byte> bytes, const SocketAddress& from, const IpAddress& client,
                        std::uint64_t now_ms) noexcept;

 private:
  struct Question {
    std::uint64_t name_hash = 0;
    SocketAddress target;
    std::uint16_t id = 0;
    bool ipv6 = false;
    bool open = false;
    bool operator==(const Question&) const = default;
  };
  /// A stub resolver asks two at a time and opens a socket for each name.
  static constexpr std::size_t kMostOpen = 16;
  [[nodiscard]] static Question as_question(const DnsQuestion& question, const SocketAddress& target) noexcept;

  NameHints& hints_;
  std::array<Question, kMostOpen> open_{};
  std::size_t next_ = 0;
  DnsFrames up_;
  DnsFrames down_;
  bool lost_ = false;  ///< no memory: nothing more is read of the connection
};

}  // namespace limpid
