// Reads SRC[:PORT] and DST[:PORT]. No names: a packet has addresses, and which of a name's was meant nobody would know.
#include "cli/packet_operands.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "cli/flag_values.h"

namespace limpid {
namespace {

constexpr std::string_view kForms = "write 192.0.2.1, 192.0.2.1:80, 2001:db8::1 or [2001:db8::1]:80";

Result<Port> parse_port(std::string_view name, std::string_view typed, std::string_view digits) {
  std::uint16_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc{} || end != digits.data() + digits.size() || value == 0) {
    return wrong(name, typed, "its port is not a number from 1 to 65535", kForms);
  }
  return Port{value};
}

}  // namespace

Result<Transport> parse_transport(std::string_view typed) {
  if (typed == "tcp") return Transport::tcp;
  if (typed == "udp") return Transport::udp;
  return wrong("PROTOCOL", typed, "neither tcp nor udp", "only those two are intercepted");
}

Result<EndpointPattern> parse_endpoint(std::string_view name, std::string_view typed, bool any_allowed) {
  EndpointPattern pattern;
  std::string_view address = typed;
  std::optional<std::string_view> digits;
  if (typed.starts_with('[')) {
    const auto closing = typed.find(']');
    if (closing == std::string_view::npos) return wrong(name, typed, "a bracket is not closed", kForms);
    address = typed.substr(1, closing - 1);
    const std::string_view rest = typed.substr(closing + 1);
    if (!rest.empty() && !rest.starts_with(':')) return wrong(name, typed, "not an address", kForms);
    if (!rest.empty()) digits = rest.substr(1);
  } else if (std::ranges::count(typed, ':') == 1) {  // an IPv6 address has two at least
    address = typed.substr(0, typed.find(':'));
    digits = typed.substr(typed.find(':') + 1);
  }
  if (!any_allowed || address != "any") {
    const auto parsed = IpAddress::parse(address);
    if (!parsed) {
      return wrong(name, typed, "not an address",
                   any_allowed ? "write 192.0.2.1:80, [2001:db8::1]:80, any, or any:80; names are not looked up"
                               : "write 192.0.2.1:80 or [2001:db8::1]:80; names are not looked up");
    }
    pattern.address = parsed->unmapped();
  }
  if (digits) {
    const auto port = parse_port(name, typed, *digits);
    if (!port) return std::unexpected(port.error());
    pattern.port = *port;
  }
  return pattern;
}

Status check_one_family(std::string_view source, const EndpointPattern& from, const EndpointPattern& to) {
  if (!from.address || !to.address || from.address->family() == to.address->family()) return {};
  return wrong("SRC", source, "not of the destination's family", "a packet is either IPv4 or IPv6");
}

}  // namespace limpid
