// CIDR blocks: parsing with a remedy for set host bits, and containment.
#include "limpid/prefix.h"

#include <fmt/format.h>

#include <charconv>

namespace limpid {
namespace {

IpAddress masked(const IpAddress& address, unsigned length) {
  auto bytes = address.bytes();
  for (unsigned bit = length; bit < address.bits(); ++bit) {
    bytes[bit / 8] = static_cast<std::uint8_t>(bytes[bit / 8] & ~(0x80U >> (bit % 8)));
  }
  return IpAddress::from_bytes(address.family(), bytes);
}

}  // namespace

Result<Prefix> Prefix::parse(std::string_view text) {
  const auto slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) {
    return usage_error("parse network", text, "not an address or CIDR block", "write 10.0.0.0/8 or 2001:db8::/32");
  }
  unsigned length = address->bits();
  if (slash != std::string_view::npos) {
    const auto digits = text.substr(slash + 1);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), length);
    if (error != std::errc{} || end != digits.data() + digits.size() || length > address->bits()) {
      return usage_error("parse network", text, fmt::format("'{}' is not a prefix length", digits),
                         fmt::format("0 to {} for {}", address->bits(), limpid::to_string(address->family())));
    }
  }
  const auto network = masked(*address, length);
  if (network != *address) {
    return usage_error("parse network", text, "bits behind the prefix length are set",
                       fmt::format("did you mean {}/{}?", network.to_string(), length));
  }
  return Prefix(network, static_cast<std::uint8_t>(length));
}

Prefix Prefix::everything(Family family) noexcept {
  return Prefix(IpAddress::any(family), 0);
}

bool Prefix::contains(const IpAddress& address) const noexcept {
  return address.family() == family() && masked(address, length_) == network_;
}

std::string Prefix::to_string() const {
  return fmt::format("{}/{}", network_.to_string(), length_);
}

}  // namespace limpid
