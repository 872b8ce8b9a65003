// What can be refused without asking the kernel is refused here; whether the mark meets the bypass mark is known when the service has chosen that one.
#include "policy/leg_options.h"

#include <fmt/format.h>

#include <utility>

#include "limpid/mark.h"
#include "net/interface_name.h"

namespace limpid {
namespace {

Status read_mark(const RuleArgument& argument, const RuleLexer& lexer, LegOptions& options) {
  const auto mark = Mark::parse(argument.value);
  if (!mark || mark->mask != 0xffffffff || mark->value == 0)
    return lexer.wrong(argument.column, fmt::format("'{}' is no mark", argument.value),
                       "a number without mask, and not 0: mark: 0x20");
  if (options.mark != 0) return lexer.wrong(argument.column, "a second mark", "one number has all the bits");
  options.mark = mark->value;
  return {};
}

Status read_interface(const RuleArgument& argument, const RuleLexer& lexer, LegOptions& options) {
  auto name = validate_interface_name(argument.value);
  if (!name)
    return lexer.wrong(argument.column, fmt::format("{} {}", name.error().object, name.error().cause),
                       name.error().remedy);
  if (!options.interface.empty()) return lexer.wrong(argument.column, "a second interface", "a leg leaves through one");
  options.interface = std::move(*name);
  return {};
}

Status read_source(const RuleArgument& argument, const RuleLexer& lexer, LegOptions& options) {
  const auto address = IpAddress::parse(argument.value);
  if (!address)
    return lexer.wrong(argument.column, fmt::format("'{}' is no address", argument.value),
                       "source: 203.0.113.7 (without a port)");
  if (address->is_unspecified() || address->is_multicast() || address->is_broadcast() || address->is_loopback() ||
      address->is_link_local() || address->unmapped() != *address)
    return lexer.wrong(argument.column, fmt::format("'{}' cannot be a source", argument.value),
                       "an address that answers can be sent to");
  auto& source = address->family() == Family::ipv4 ? options.source_ipv4 : options.source_ipv6;
  if (source) return lexer.wrong(argument.column, "a second source of one family", "one of IPv4 and one of IPv6");
  source = *address;
  return {};
}

Status read_by_name(const RuleArgument& argument, const RuleLexer& lexer, LegOptions& options) {
  if (argument.value != "yes" && argument.value != "no")
    return lexer.wrong(argument.column, fmt::format("'{}' is neither yes nor no", argument.value), "by-name: yes");
  options.by_name = argument.value == "yes";
  return {};
}

}  // namespace

bool is_leg_option(std::string_view key) noexcept {
  return key == "mark" || key == "interface" || key == "source" || key == "by-name";
}

Result<std::shared_ptr<const LegOptions>> read_leg_options(std::span<const RuleArgument> given,
                                                           const RuleLexer& lexer) {
  if (given.empty()) return nullptr;
  LegOptions options;
  for (const RuleArgument& argument : given) {
    Status read;
    if (argument.key == "mark") {
      read = read_mark(argument, lexer, options);
    } else if (argument.key == "interface") {
      read = read_interface(argument, lexer, options);
    } else if (argument.key == "source") {
      read = read_source(argument, lexer, options);
    } else if (argument.key == "by-name") {
      read = read_by_name(argument, lexer, options);
    } else {
      return lexer.wrong(
          argument.column,
          fmt::format("'{}' is no option of a target leg", argument.key.empty() ? argument.value : argument.key + ':'),
          "mark: NUMBER, interface: NAME, source: ADDRESS, by-name: yes");
    }
    if (!read) return std::unexpected(read.error());
  }
  return std::make_shared<const LegOptions>(std::move(options));
}

}  // namespace limpid
