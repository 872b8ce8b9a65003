// What DNS says of names and addresses: a question for them out of a query, and, out of the answer to it, what the name means. For whoever learns names from
// answers that pass by (relay/name_hints.h). Bytes in, values out; whatever is not as the RFCs have it is no answer. Pure, fuzzed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "sniff/host_name.h"

namespace limpid {

/// For the addresses of a name, of class IN (RFC 1035, RFC 3596).
struct DnsQuestion {
  HostName name;  ///< as asked for, in lower case
  std::uint16_t id = 0;
  bool ipv6 = false;  ///< AAAA; else A
};

/// What the name means, its aliases followed (CNAME).
struct DnsAnswer {
  /// More addresses of one name are left out: servers send eight or fewer, and clients dial the first ones.
  static constexpr std::size_t kMostAddresses = 16;
  DnsQuestion question;                                                  ///< as the answer repeats it
  std::uint32_t ttl_seconds = 0;                                         ///< the least of the records that led there
  std::size_t count = 0;                                                 ///< of `addresses`; 1 or more
  std::array<std::array<std::uint8_t, 16>, kMostAddresses> addresses{};  ///< of IPv4 the first four bytes
};

/// A client's query: false where it asks for anything else than addresses of a name.
[[nodiscard]] bool read_dns_question(std::span<const std::byte> message, DnsQuestion& question) noexcept;

/// A server's answer: false where it is none, was cut short (TC), says no, has no address of the wanted family, or has anything malformed among its answers: names whose
/// pointers do not lead backwards, more records than `kMostDnsRecords`, lengths that do not fit. The other sections are not looked at.
[[nodiscard]] bool read_dns_answer(std::span<const std::byte> message, DnsAnswer& answer) noexcept;

/// Of the answer section; and aliases in a row.
inline constexpr std::size_t kMostDnsRecords = 64;
inline constexpr std::size_t kMostDnsAliases = 8;

}  // namespace limpid
