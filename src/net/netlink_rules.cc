// Policy routing rules in rtnetlink: what `ip rule` shows, adds and deletes.
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>

#include <cerrno>
#include <string>

#include "net/netlink.h"
#include "net/netlink_message.h"

namespace limpid {
namespace {

using netlink::Attributes;
using netlink::Request;

RuleAction action_of(std::uint8_t native) noexcept {
  if (native == FR_ACT_TO_TBL) return RuleAction::lookup;
  if (native == FR_ACT_GOTO) return RuleAction::jump;
  if (native == FR_ACT_NOP) return RuleAction::nop;
  return RuleAction::other;
}

std::uint8_t to_native(RuleAction action) noexcept {
  switch (action) {
    case RuleAction::lookup: return FR_ACT_TO_TBL;
    case RuleAction::jump: return FR_ACT_GOTO;
    case RuleAction::nop: return FR_ACT_NOP;
    case RuleAction::other: break;
  }
  return FR_ACT_UNSPEC;
}

RuleSpec read_rule(const nlmsghdr& message, const fib_rule_hdr& header, Family family) {
  const Attributes<FRA_PROTOCOL> attributes(message, sizeof header);
  RuleSpec rule;
  rule.family = family;
  rule.priority.value = attributes.u32(FRA_PRIORITY).value_or(0);
  const auto value = attributes.u32(FRA_FWMARK);
  const auto mask = attributes.u32(FRA_FWMASK);
  if (value || mask) rule.mark = Mark{.value = value.value_or(0), .mask = mask.value_or(~0U)};
  rule.input_interface = attributes.text(FRA_IIFNAME);
  rule.action = action_of(header.action);
  if (rule.action == RuleAction::lookup) rule.table.value = attributes.u32(FRA_TABLE).value_or(header.table);
  if (rule.action == RuleAction::jump) rule.jump_target.value = attributes.u32(FRA_GOTO).value_or(0);
  rule.protocol = attributes.u8(FRA_PROTOCOL).value_or(0);
  rule.inverted = (header.flags & FIB_RULE_INVERT) != 0;
  return rule;
}

void write_rule(Request& request, const RuleSpec& rule) {
  auto& header = request.extra_header<fib_rule_hdr>();
  header.family = netlink::to_native(rule.family);
  header.action = to_native(rule.action);
  // The header's table has eight bits; FRA_TABLE has the number when it does not fit.
  if (rule.action == RuleAction::lookup) {
    header.table = static_cast<std::uint8_t>(rule.table.value < 256 ? rule.table.value : RT_TABLE_UNSPEC);
  }
  if (rule.inverted) header.flags |= FIB_RULE_INVERT;
  nlmsghdr& message = request.header();
  mnl_attr_put_u32(&message, FRA_PRIORITY, rule.priority.value);
  if (rule.mark) {
    mnl_attr_put_u32(&message, FRA_FWMARK, rule.mark->value);
    mnl_attr_put_u32(&message, FRA_FWMASK, rule.mark->mask);
  }
  if (!rule.input_interface.empty()) mnl_attr_put_strz(&message, FRA_IIFNAME, rule.input_interface.c_str());
  if (rule.action == RuleAction::lookup) mnl_attr_put_u32(&message, FRA_TABLE, rule.table.value);
  if (rule.action == RuleAction::jump) mnl_attr_put_u32(&message, FRA_GOTO, rule.jump_target.value);
  mnl_attr_put_u8(&message, FRA_PROTOCOL, rule.protocol);
}

// "IPv4 rule 100", as error messages name it.
std::string name_of(const RuleSpec& rule) {
  return std::string(to_string(rule.family)) + " rule " + std::to_string(rule.priority.value);
}

}  // namespace

Result<std::vector<RuleSpec>> RouteSocket::rules(Family family) {
  Request request(RTM_GETRULE, 0);
  request.extra_header<fib_rule_hdr>().family = netlink::to_native(family);
  std::vector<RuleSpec> found;
  auto outcome = socket_.dump(
      request.header(), "read " + std::string(to_string(family)) + " rules", [&found] { found.clear(); },
      [&found, family](const nlmsghdr& message) {
        if (message.nlmsg_type != RTM_NEWRULE || mnl_nlmsg_get_payload_len(&message) < sizeof(fib_rule_hdr)) return;
        const auto& header = *static_cast<const fib_rule_hdr*>(mnl_nlmsg_get_payload(&message));
        if (netlink::family_of(header.family) == family) found.push_back(read_rule(message, header, family));
      });
  // A kernel that was started without IPv6 (ipv6.disable=1) has no IPv6 rules.
  if (!outcome && outcome.error().code == EAFNOSUPPORT) return std::vector<RuleSpec>{};
  if (!outcome) return std::unexpected(outcome.error());
  return found;
}

Status RouteSocket::add_rule(const RuleSpec& rule) {
  if (rule.action == RuleAction::other) return failure("add", name_of(rule), "its action is not one that Limpid knows");
  Request request(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL);
  write_rule(request, rule);
  return socket_.change(request.header(), "add", name_of(rule));
}

Status RouteSocket::delete_rule(const RuleSpec& rule) {
  Request request(RTM_DELRULE, 0);
  write_rule(request, rule);
  return socket_.change(request.header(), "delete", name_of(rule));
}

}  // namespace limpid
