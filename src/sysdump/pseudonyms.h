// Pseudonyms: addresses and names in a text become others, the same ones each time, so that whoever reads the text can follow a client through it
// without learning who it is. Pure but for its key, which nobody else has and which is gone with the object.
//
// Addresses keep their networks' structure: two that share their first n bits still do (as Crypto-PAn, Xu et al. 2002). Private, loopback, multicast and other
// ranges of their own stay such ranges. What says nothing about anybody (loopback, unspecified, multicast) stays as it is.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "limpid/address.h"

namespace limpid {

class Pseudonyms {
 public:
  using Key = std::array<std::uint8_t, 32>;
  explicit Pseudonyms(const Key& key) noexcept : key_(key) {}
  /// With a key of its own, from the kernel.
  [[nodiscard]] static Result<Pseudonyms> make();

  /// A word that does not look like a name, and is one: a host's, without a dot.
  void learn(std::string_view name);
  /// Every IPv4 and IPv6 address, MAC address, domain name, argument of domain(…) and target(…), host of a URL, name of a flow in the access log, and learnt word.
  [[nodiscard]] std::string apply(std::string_view text);

  [[nodiscard]] IpAddress of(const IpAddress& address);
  /// Label by label, the last one kept: names below one another still are.
  [[nodiscard]] std::string of_name(std::string_view name) const;
  /// "02:00:00:…" of six hexadecimal pairs.
  [[nodiscard]] std::string of_mac(std::string_view mac) const;

 private:
  [[nodiscard]] std::array<std::uint8_t, 32> keyed(std::string_view message) const;
  [[nodiscard]] std::string of_host(std::string_view word, std::string_view behind);
  [[nodiscard]] std::string of_word(std::string_view word, std::string_view behind);
  [[nodiscard]] static std::size_t address_at(std::string_view word, std::size_t at);
  [[nodiscard]] std::string of_parts(std::string_view word, std::string_view behind);
  [[nodiscard]] std::string of_network(const IpAddress& address, std::string_view behind);

  Key key_;
  std::map<IpAddress, IpAddress> known_;
  std::set<std::string, std::less<>> learnt_;
};

}  // namespace limpid
