// A name out of a flow's first bytes, normalised: lower case, without a trailing dot, A-labels as they are, at most 253 bytes of
// letters, digits, '-', '_' and '.'; or the canonical text of an IP address. Filled by the parsers of this room; whatever else a
// stranger writes is refused as a whole, so that nothing in a HostName can act in a log, a terminal or a rule.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace limpid {

class HostName {
 public:
  enum class Kind : std::uint8_t {
    none,    ///< no name
    domain,  ///< a domain name (RFC 1035 section 2.3.4: 253 bytes as text)
    ipv4,    ///< a dotted quad
    ipv6,    ///< as inet_ntop(3) writes it, without brackets
  };
  static constexpr std::size_t kMostBytes = 253;
  static constexpr std::size_t kMostLabelBytes = 63;

  [[nodiscard]] std::string_view view() const noexcept { return {text_.data(), length_}; }
  [[nodiscard]] Kind kind() const noexcept { return kind_; }
  [[nodiscard]] bool empty() const noexcept { return kind_ == Kind::none; }
  [[nodiscard]] bool is_address() const noexcept { return kind_ == Kind::ipv4 || kind_ == Kind::ipv6; }
  void clear() noexcept { *this = HostName(); }

  /// Each of these returns false, and leaves no name, where the text is none.
  /// A domain name and nothing else: a DNS question's, where digits and dots are a name like any other.
  [[nodiscard]] bool assign_domain(std::string_view text) noexcept;
  /// A domain name or an address, IPv6 without brackets: what a server_name extension holds. What ends in a number is a dotted quad or
  /// nothing, because programs disagree about the rest: inet_aton(3) and browsers take 0x7f.1 for an address.
  [[nodiscard]] bool assign_host(std::string_view text) noexcept;
  /// "host", "host:port", "[IPv6]", "[IPv6]:port" (RFC 3986 section 3.2, without userinfo and percent-encoding).
  [[nodiscard]] bool assign_authority(std::string_view text) noexcept;

  friend bool operator==(const HostName& one, const HostName& other) noexcept {
    return one.kind_ == other.kind_ && one.view() == other.view();
  }

 private:
  [[nodiscard]] bool assign_ipv4(std::string_view text) noexcept;
  [[nodiscard]] bool assign_ipv6(std::string_view text) noexcept;

  std::array<char, kMostBytes> text_;  ///< the first length_ bytes; the rest is never read
  std::uint8_t length_ = 0;
  Kind kind_ = Kind::none;

 public:
  // NOLINTNEXTLINE(modernize-use-equals-default, *-member-init): text_ stays as it is on purpose, it is hot
  HostName() noexcept {}
};

}  // namespace limpid
