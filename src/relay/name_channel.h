// What passes between the relay and the process that looks names up for it (SOCK_SEQPACKET): one question a packet, one answer a packet.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace limpid {

/// More addresses of one name than this are not dialled: a DNS answer is somebody else's.
inline constexpr std::size_t kMostNameAddresses = 16;
/// So many questions are worked at beside each other; no more are sent.
inline constexpr unsigned kNamesAtOnce = 16;

struct NameQuestion {
  std::uint64_t number = 0;
  std::uint32_t ipv6 = 0;          ///< 1: AAAA is wanted; 0: A
  std::array<char, 256> host{};    ///< with a zero behind it
  std::array<char, 4> reserved{};  ///< nothing of our memory is in a gap
};

struct NameAnswer {
  std::uint64_t number = 0;  ///< the question's
  std::uint64_t count = 0;   ///< 0: it has none, or nobody could be asked
  std::array<std::array<std::uint8_t, 16>, kMostNameAddresses> addresses{};  ///< as IpAddress::bytes()
};

}  // namespace limpid
