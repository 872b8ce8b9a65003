// Reads what several flags have in common.
#include "cli/flag_values.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "limpid/mark.h"
#include "net/resolve.h"

namespace limpid {
namespace {

constexpr std::string_view kBlanks = " \t";

std::string shown(std::string_view typed) {
  std::string text;
  for (const char c : typed.substr(0, 80)) text += c >= ' ' && c <= '~' ? c : '?';
  return text;
}

std::string_view trimmed(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(kBlanks), text.size()));
  const auto last = text.find_last_not_of(kBlanks);
  return last == std::string_view::npos ? std::string_view{} : text.substr(0, last + 1);
}

}  // namespace

std::unexpected<Error> wrong(std::string_view flag, std::string_view typed, std::string_view cause,
                             std::string_view remedy) {
  return usage_error(flag, typed.empty() ? "\"\"" : shown(typed), cause, remedy);
}

std::unexpected<Error> wrong(std::string_view flag, std::string_view typed, const Error& error) {
  return wrong(flag, typed, error.cause, error.remedy);
}

Result<std::vector<std::string>> items_of(std::string_view flag, const std::vector<std::string>& values) {
  std::vector<std::string> items;
  for (const std::string& value : values) {
    std::string_view rest = value;
    while (true) {
      const auto comma = rest.find(',');
      const std::string_view item = trimmed(rest.substr(0, comma));
      if (item.empty()) return wrong(flag, value, "an item is empty", "leave out the flag, or the superfluous comma");
      items.emplace_back(item);
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  }
  return items;
}

Result<std::uint32_t> parse_number(std::string_view flag, std::string_view typed, std::uint32_t least,
                                   std::uint32_t most, std::string_view meaning) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(typed.data(), typed.data() + typed.size(), number);
  if (error != std::errc{} || end != typed.data() + typed.size() || number < least || number > most) {
    return wrong(flag, typed, fmt::format("not {}", meaning), fmt::format("give a number from {} to {}", least, most));
  }
  return number;
}

Result<std::uint32_t> parse_socket_mark(std::string_view flag, std::string_view typed) {
  const auto mark = Mark::parse(typed);
  if (typed.find('/') != std::string_view::npos) {
    return wrong(flag, typed, "a socket's mark has no mask", "write the number alone, for example 0x2000000");
  }
  if (!mark || mark->value == 0) return wrong(flag, typed, "not a mark", "write a number, for example 0x2000000");
  return mark->value;
}

Status refuse_port(std::string_view operand, std::string_view typed, std::string_view command) {
  const bool bracketed = typed.starts_with('[') && typed.find("]:") != std::string_view::npos;
  if (!bracketed && std::ranges::count(typed, ':') != 1) return {};
  const auto colon = typed.rfind(':');
  const auto host = without_brackets(typed.substr(0, colon));
  return wrong(operand, typed, "a host and a port in one word",
               fmt::format("write the port apart: {} {} {}", command, shown(host), shown(typed.substr(colon + 1))));
}

Status check_dialled(std::string_view flag, std::string_view typed, const SocketAddress& target) {
  const IpAddress& address = target.address;
  if (address.is_unspecified()) {
    return wrong(flag, typed, "no host has this address", "for this host itself write 127.0.0.1 or ::1");
  }
  if (address.is_multicast() || address.is_broadcast()) {
    return wrong(flag, typed, "the address of many hosts", "give the address of one");
  }
  return check_scope(flag, typed, target);
}

Status check_scope(std::string_view flag, std::string_view typed, const SocketAddress& address) {
  const bool lacks_scope = address.family() == Family::ipv6 && address.address.is_link_local() && address.scope_id == 0;
  if (!lacks_scope) return {};
  return wrong(flag, typed, "a link-local address means nothing without its link",
               fmt::format("add the interface, for example {}%eth0", address.address.to_string()));
}

}  // namespace limpid
