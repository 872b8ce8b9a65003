// Prefix: a CIDR block as a value.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>

#include "limpid/address.h"
#include "limpid/error.h"

namespace limpid {

/// A network in CIDR notation. The bits behind `length` are always zero.
class Prefix {
 public:
  /// Reads "10.0.0.0/8", "2001:db8::/32", or a bare address (its full length). Host bits that are set are an error
  /// whose remedy names the network that was probably meant.
  [[nodiscard]] static Result<Prefix> parse(std::string_view text);
  /// 0.0.0.0/0 or ::/0.
  [[nodiscard]] static Prefix everything(Family family) noexcept;

  [[nodiscard]] Family family() const noexcept { return network_.family(); }
  [[nodiscard]] const IpAddress& network() const noexcept { return network_; }
  [[nodiscard]] unsigned length() const noexcept { return length_; }
  [[nodiscard]] bool contains(const IpAddress& address) const noexcept;
  /// "10.0.0.0/8"; always with the length.
  [[nodiscard]] std::string to_string() const;
  auto operator<=>(const Prefix&) const = default;

 private:
  Prefix(const IpAddress& network, std::uint8_t length) noexcept : network_(network), length_(length) {}
  IpAddress network_;
  std::uint8_t length_ = 0;
};

}  // namespace limpid
