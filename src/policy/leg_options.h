// How the target leg of a flow is dialled, where a rule says so: direct(mark: 0x20, interface: wan1, source: 203.0.113.7).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "limpid/address.h"
#include "limpid/error.h"
#include "policy/rule_argument.h"
#include "policy/rule_lexer.h"

namespace limpid {

struct LegOptions {
  std::uint32_t mark = 0;                  ///< set beside the bypass mark, of which it must have no bit; 0: none
  std::string interface{};                 ///< leaves through it, whatever routes say; empty: as routes say
  std::optional<IpAddress> source_ipv4{};  ///< what targets of IPv4 see; empty: as the source mode says
  std::optional<IpAddress> source_ipv6{};
  bool by_name = false;  ///< goes where the name leads that the flow asks for, not where its client dialled
  bool operator==(const LegOptions&) const = default;

  [[nodiscard]] const std::optional<IpAddress>& source(Family family) const noexcept {
    return family == Family::ipv4 ? source_ipv4 : source_ipv6;
  }
  /// Whether it is routed otherwise than packets with its addresses and the bypass mark.
  [[nodiscard]] bool routes_otherwise() const noexcept { return mark != 0 || !interface.empty(); }
};

/// "mark", "interface", "source", "by-name".
[[nodiscard]] bool is_leg_option(std::string_view key) noexcept;
/// Each with its key. nullptr where there are none.
[[nodiscard]] Result<std::shared_ptr<const LegOptions>> read_leg_options(std::span<const RuleArgument> given,
                                                                         const RuleLexer& lexer);

}  // namespace limpid
