// Who owns what is in the kernel: the names of our tables and chains, and the comment in which they say how to undo
// everything. Pure. The comment is read back from a kernel that anybody with privileges may have written to, so nothing
// in it is believed that to_comment() could not have written.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <limits>
#include <vector>

#include "intercept/plan.h"

namespace limpid {
namespace {

constexpr std::string_view kDefaultName = "limpid";
constexpr std::string_view kPrefix = "limpid_";
constexpr std::string_view kSchema = "1";
constexpr std::size_t kNameMaxLength = 16;
constexpr std::size_t kCommentMaxLength = 127;  // NFTNL_UDATA_COMMENT_MAXLEN, libnftnl

std::vector<std::string_view> split_at_spaces(std::string_view text) {
  std::vector<std::string_view> words;
  while (true) {
    const auto space = text.find(' ');
    words.push_back(text.substr(0, space));
    if (space == std::string_view::npos) return words;
    text.remove_prefix(space + 1);
  }
}

template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// Whether `letters` are some of `all`, in their order.
bool is_some_of(std::string_view letters, std::string_view all) {
  for (const char letter : all) {
    if (!letters.empty() && letters.front() == letter) letters.remove_prefix(1);
  }
  return letters.empty();
}

std::unexpected<Error> foreign_comment(std::string_view name) {
  return failure("recognise", fmt::format("nft table inet {}", table_name_of(name)),
                 "its comment is not one of Limpid's",
                 fmt::format("another program's? see it with `nft list table inet {}`, or choose another --name",
                             table_name_of(name)));
}

}  // namespace

Status check_instance_name(std::string_view name) {
  const auto is_lower = [](char c) { return c >= 'a' && c <= 'z'; };
  const auto is_allowed = [&](char c) { return is_lower(c) || (c >= '0' && c <= '9') || c == '_'; };
  if (!name.empty() && name.size() <= kNameMaxLength && is_lower(name.front()) &&
      std::ranges::all_of(name, is_allowed)) {
    return {};
  }
  return usage_error("name", fmt::format("\"{}\"", name), "not a name for an instance",
                     "a lower-case letter, then up to 15 lower-case letters, digits or underscores");
}

std::string table_name_of(std::string_view name) {
  return name == kDefaultName ? std::string(kDefaultName) : fmt::format("{}{}", kPrefix, name);
}

std::optional<std::string> instance_of(std::string_view table_name) {
  if (table_name == kDefaultName) return std::string(kDefaultName);
  if (!table_name.starts_with(kPrefix)) return std::nullopt;
  const std::string_view name = table_name.substr(kPrefix.size());
  if (name == kDefaultName || !check_instance_name(name)) return std::nullopt;
  return std::string(name);
}

std::string_view to_string(Backend backend) {
  switch (backend) {
    case Backend::nftables: return "nftables";
    case Backend::iptables_nft: return "iptables-nft";
    case Backend::iptables_legacy: return "iptables-legacy";
    case Backend::ebpf: return "ebpf";
  }
  return "unknown";
}

SysctlChange sysctl_of(char letter) {
  const std::string_view key = letter == '4' ? kForwardingIpv4 : letter == '6' ? kForwardingIpv6 : kAcceptLocal;
  return {.key = std::string(key), .value = "1", .previous = "0"};
}

char letter_of(const SysctlChange& change) {
  if (change.key == kForwardingIpv4) return '4';
  return change.key == kForwardingIpv6 ? '6' : 'l';
}

std::string xtables_chain(std::string_view name, std::string_view suffix) {
  return fmt::format("{}-{}", table_name_of(name), suffix);
}

std::optional<std::string> instance_of_chain(std::string_view chain) {
  const auto dash = chain.rfind('-');
  return dash == std::string_view::npos ? std::nullopt : instance_of(chain.substr(0, dash));
}

Result<MarkField> MarkField::from(const Mark& mark) {
  if (std::popcount(mark.mask) < 2) {
    return usage_error("mark", mark.to_string(),
                       "the mask needs at least two bits, one value to intercept and one to bypass",
                       "for example 0x1000000/0x3000000");
  }
  if (mark.value == 0 || mark.value == mark.mask || (mark.value & ~mark.mask) != 0) {
    return usage_error("mark", mark.to_string(), "the value must set some bits of the mask, but not all of them",
                       "for example 0x1000000/0x3000000");
  }
  return MarkField{.mask = mark.mask, .intercept = mark.value, .bypass = mark.mask & ~mark.value};
}

std::string Ownership::to_comment() const {
  std::string comment =
      fmt::format("limpid {} {} 0x{:x}/0x{:x} {} {} p{}", kSchema, keeper == Keeper::process ? "run" : "keep",
                  mark.intercept, mark.mask, table.value, priority.value, listener.value);
  if (!sysctls.empty()) comment += " f" + sysctls;
  if (local) comment += " local";
  if (keeps_udp_port) comment += " udp-port";
  if (heartbeat) comment += " beat";
  return comment;
}

Result<Ownership> Ownership::from_comment(std::string_view name, std::string_view comment, Backend backend) {
  if (comment.size() > kCommentMaxLength) return foreign_comment(name);
  const std::vector<std::string_view> words = split_at_spaces(comment);
  if (words.size() >= 2 && words[0] == "limpid" && words[1] != kSchema) {
    return failure("recognise", fmt::format("nft table inet {}", table_name_of(name)),
                   "made by another version of Limpid", "remove it with that version's `limpid rules remove`");
  }
  if (words.size() < 7 || words.size() > 11 || words[0] != "limpid") return foreign_comment(name);

  Ownership ownership;
  ownership.name = name;
  ownership.backend = backend;
  ownership.keeper = words[2] == "run" ? Keeper::process : Keeper::permanent;
  const auto mark = Mark::parse(words[3]);
  const auto field = mark ? MarkField::from(*mark) : Result<MarkField>(std::unexpected(mark.error()));
  const auto table = parse_number<std::uint32_t>(words[4]);
  const auto priority = parse_number<std::uint32_t>(words[5]);
  const auto port = parse_number<std::uint16_t>(words[6].substr(std::min<std::size_t>(1, words[6].size())));
  if (!field || !table || !priority || !port) return foreign_comment(name);
  ownership.mark = *field;
  ownership.table = TableId{*table};
  ownership.priority = RulePriority{*priority};
  ownership.listener = Port{*port};
  for (std::size_t i = 7; i < words.size(); ++i) {
    if (words[i] == "local") {
      ownership.local = true;
    } else if (words[i] == "udp-port") {
      ownership.keeps_udp_port = true;
    } else if (words[i] == "beat") {
      ownership.heartbeat = true;
    } else if (!words[i].empty()) {
      ownership.sysctls = words[i].substr(1);
    }
  }

  const bool sensible = *table != 0 && *priority != 0 && *priority <= std::numeric_limits<std::uint32_t>::max() - 2 &&
                        is_some_of(ownership.sysctls, "46l");
  // Whatever was read must be written the same way again: this refuses every spelling that is not ours.
  if (!sensible || ownership.to_comment() != comment) return foreign_comment(name);
  return ownership;
}

}  // namespace limpid
