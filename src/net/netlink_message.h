// How rtnetlink messages are built and read, for the netlink_*.cc files only. Knows libmnl; keeps no state.
#pragma once

#include <libmnl/libmnl.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "limpid/address.h"

namespace limpid::netlink {

/// A request under construction. Ours have a handful of short attributes: 1 KiB is several times what they need.
class Request {
 public:
  Request(std::uint16_t type, std::uint16_t flags) noexcept : header_(mnl_nlmsg_put_header(buffer_.data())) {
    header_->nlmsg_type = type;
    header_->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  }
  Request(const Request&) = delete;
  Request& operator=(const Request&) = delete;
  Request(Request&&) = delete;
  Request& operator=(Request&&) = delete;
  ~Request() = default;

  /// The family's own header (rtmsg, ifinfomsg, …), zeroed; once, before any attribute.
  template <class Header>
  Header& extra_header() noexcept {
    return *static_cast<Header*>(mnl_nlmsg_put_extra_header(header_, sizeof(Header)));
  }
  [[nodiscard]] nlmsghdr& header() noexcept { return *header_; }

 private:
  alignas(NLMSG_ALIGNTO) std::array<std::byte, 1024> buffer_{};
  nlmsghdr* header_;
};

/// The attributes of a message (or of a nested attribute), by type. `kMax` is the highest type of interest.
template <std::uint16_t kMax>
class Attributes {
 public:
  Attributes(const nlmsghdr& message, std::size_t extra_header_bytes) noexcept {
    mnl_attr_parse(&message, static_cast<unsigned>(extra_header_bytes), &keep, this);
  }
  /// Of a nested attribute; none where that is absent.
  explicit Attributes(const nlattr* nested) noexcept {
    if (nested != nullptr) mnl_attr_parse_nested(nested, &keep, this);
  }
  [[nodiscard]] const nlattr* operator[](std::uint16_t type) const noexcept { return found_[type]; }
  /// Empty when it is absent or too short.
  [[nodiscard]] std::optional<std::uint32_t> u32(std::uint16_t type) const noexcept {
    const nlattr* attribute = found_[type];
    if (attribute == nullptr || mnl_attr_validate(attribute, MNL_TYPE_U32) < 0) return std::nullopt;
    return mnl_attr_get_u32(attribute);
  }
  [[nodiscard]] std::optional<std::uint8_t> u8(std::uint16_t type) const noexcept {
    const nlattr* attribute = found_[type];
    if (attribute == nullptr || mnl_attr_validate(attribute, MNL_TYPE_U8) < 0) return std::nullopt;
    return mnl_attr_get_u8(attribute);
  }
  [[nodiscard]] std::string text(std::uint16_t type) const {
    const nlattr* attribute = found_[type];
    if (attribute == nullptr || mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) < 0) return {};
    return mnl_attr_get_str(attribute);
  }

 private:
  static int keep(const nlattr* attribute, void* self) noexcept {
    const std::uint16_t type = mnl_attr_get_type(attribute);
    if (type <= kMax) static_cast<Attributes*>(self)->found_[type] = attribute;
    return MNL_CB_OK;
  }
  std::array<const nlattr*, kMax + 1> found_{};
};

[[nodiscard]] std::uint8_t to_native(Family family) noexcept;  ///< AF_INET or AF_INET6
[[nodiscard]] std::optional<Family> family_of(unsigned native) noexcept;

void put_address(nlmsghdr& message, std::uint16_t type, const IpAddress& address) noexcept;
/// Empty when the attribute is absent or does not have the family's length.
[[nodiscard]] std::optional<IpAddress> get_address(const nlattr* attribute, Family family) noexcept;

}  // namespace limpid::netlink
