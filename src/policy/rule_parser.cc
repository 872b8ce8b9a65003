// Recursive descent over the lexer's tokens, one function for each line of the grammar in rule.h.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <utility>

#include "policy/place_test.h"
#include "policy/rule.h"
#include "policy/rule_lexer.h"

namespace limpid {
namespace {

using Kind = RuleToken::Kind;

constexpr std::array<std::string_view, 18> kTests{"src", "dst", "sport",  "dport",   "proto", "domain",
                                                  "app", "ech", "time",   "iif",     "mac",   "dscp",
                                                  "uid", "gid", "cgroup", "process", "geoip", "asn"};
constexpr std::array<std::string_view, 6> kActions{"direct", "via", "target", "reject", "drop", "bypass"};
constexpr std::array<std::string_view, 7> kDays{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};
constexpr unsigned kDayMinutes = 24 * 60;
constexpr unsigned kWeekMinutes = 7 * kDayMinutes;
constexpr std::size_t kLongestRule = 16 * 1024;

using Argument = RuleArgument;

/// Levenshtein's distance, for short words.
std::size_t distance(std::string_view one, std::string_view other) {
  std::vector<std::size_t> row(other.size() + 1);
  for (std::size_t i = 0; i <= other.size(); ++i) row[i] = i;
  for (std::size_t i = 1; i <= one.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= other.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (one[i - 1] == other[j - 1] ? 0U : 1U)});
      diagonal = above;
    }
  }
  return row[other.size()];
}

/// What a user may have meant, or all there is.
std::string suggestion(std::string_view typed, std::span<const std::string_view> known) {
  const auto nearest =
      std::ranges::min_element(known, {}, [&](std::string_view word) { return distance(typed.substr(0, 32), word); });
  if (distance(typed.substr(0, 32), *nearest) <= 2) return fmt::format("did you mean {}?", *nearest);
  return fmt::format("one of: {}", fmt::join(known, ", "));
}

class Parser {
 public:
  Parser(std::string_view text, const NamedSets& sets) : lexer_(text), sets_(sets) {}

  Result<Rule> rule() {
    if (auto read = advance(); !read) return std::unexpected(read.error());
    Rule rule;
    auto condition = token_is_word("otherwise") ? otherwise() : any(0);
    if (!condition) return std::unexpected(condition.error());
    rule.condition = std::move(*condition);
    if (token_.kind != Kind::arrow) return wrong("an action is missing", "end the rule with, for example, -> direct");
    if (auto read = advance(); !read) return std::unexpected(read.error());
    if (auto read = action(rule); !read) return std::unexpected(read.error());
    if (token_.kind != Kind::end) return wrong("something follows the action", "one action for each rule");
    return rule;
  }

 private:
  [[nodiscard]] std::unexpected<Error> wrong(std::string_view cause, std::string_view remedy = {}) const {
    return lexer_.wrong(token_.column, cause, remedy);
  }
  [[nodiscard]] bool token_is_word(std::string_view word) const {
    return token_.kind == Kind::word && token_.text == word;
  }

  Status advance() {
    auto next = lexer_.next();
    if (!next) return std::unexpected(next.error());
    token_ = std::move(*next);
    return {};
  }

  Result<Condition> otherwise() {
    if (auto read = advance(); !read) return std::unexpected(read.error());
    return Condition{};
  }

  Result<Condition> any(unsigned depth) { return joined(Condition::Kind::any, Kind::either, depth); }
  Result<Condition> all(unsigned depth) { return joined(Condition::Kind::all, Kind::both, depth); }

  Result<Condition> joined(Condition::Kind kind, Kind sign, unsigned depth) {
    Condition whole{.kind = kind};
    for (;;) {
      auto part = kind == Condition::Kind::any ? all(depth) : unary(depth);
      if (!part) return part;
      whole.parts.push_back(std::move(*part));
      if (token_.kind != sign) break;
      if (auto read = advance(); !read) return std::unexpected(read.error());
    }
    if (whole.parts.size() == 1) return std::move(whole.parts.front());
    return whole;
  }

  Result<Condition> unary(unsigned depth) {
    if (depth >= kDeepestCondition) return wrong("brackets and negations are nested too deeply", "split the rule");
    if (token_.kind == Kind::negation) {
      if (auto read = advance(); !read) return std::unexpected(read.error());
      auto part = unary(depth + 1);
      if (!part) return part;
      Condition negation{.kind = Condition::Kind::none};
      negation.parts.push_back(std::move(*part));
      return negation;
    }
    if (token_.kind == Kind::open) {
      if (auto read = advance(); !read) return std::unexpected(read.error());
      auto part = any(depth + 1);
      if (!part) return part;
      if (token_.kind != Kind::close) return wrong("a bracket is not closed", "add )");
      if (auto read = advance(); !read) return std::unexpected(read.error());
      return part;
    }
    return test();
  }

  Result<Condition> test() {
    if (token_.kind != Kind::word) return wrong("a condition is missing", "for example dst(10.0.0.0/8), or otherwise");
    if (token_.text == "otherwise") return wrong("'otherwise' stands alone, for all that no rule before has met");
    const RuleToken name = token_;
    if (std::ranges::find(kTests, name.text) == kTests.end())
      return wrong(fmt::format("there is no condition '{}'", name.text), suggestion(name.text, kTests));
    if (auto read = advance(); !read) return std::unexpected(read.error());
    Condition condition{.kind = Condition::Kind::test};
    if (name.text == "ech") {
      condition.test = HasEch{};
      return condition;
    }
    auto given = arguments(name);
    if (!given) return std::unexpected(given.error());
    auto made = make_test(name, *given);
    if (!made) return std::unexpected(made.error());
    condition.test = std::move(*made);
    return condition;
  }

  /// `(`, one or more of them, `)`.
  Result<std::vector<Argument>> arguments(const RuleToken& name) {
    if (token_.kind != Kind::open)
      return wrong(fmt::format("{} needs something in brackets", name.text), fmt::format("write {}(…)", name.text));
    std::vector<Argument> found;
    do {
      if (auto read = advance(); !read) return std::unexpected(read.error());
      auto argument = read_argument(name);
      if (!argument) return std::unexpected(argument.error());
      found.push_back(std::move(*argument));
    } while (token_.kind == Kind::comma);
    if (token_.kind != Kind::close) return wrong("a bracket is not closed", "add ), or a comma between two of them");
    if (auto read = advance(); !read) return std::unexpected(read.error());
    return found;
  }

  /// What may stand before a colon.
  static bool takes_key(const RuleToken& name, std::string_view key) {
    if (name.text == "domain") return true;
    if (is_place_test(name.text)) return key == "src" || key == "dst";
    if (name.text == "via") return is_leg_option(key);
    // What is no option is refused by its name; an address has a digit or a bracket before its first colon.
    return (name.text == "direct" || name.text == "target") && !key.empty() &&
           std::ranges::all_of(key, [](char c) { return (c >= 'a' && c <= 'z') || c == '-'; });
  }

  Result<Argument> read_argument(const RuleToken& name) {
    if (token_.kind != Kind::word && token_.kind != Kind::quoted)
      return wrong("something is missing between the brackets");
    Argument argument{.key = {}, .value = token_.text, .column = token_.column};
    const bool was_word = token_.kind == Kind::word;
    if (auto read = advance(); !read) return std::unexpected(read.error());
    const auto colon = was_word ? argument.value.find(':') : std::string::npos;
    if (colon != std::string::npos && takes_key(name, std::string_view(argument.value).substr(0, colon))) {
      argument.key = argument.value.substr(0, colon);
      argument.value.erase(0, colon + 1);
      if (argument.value.empty()) {
        if (token_.kind != Kind::word && token_.kind != Kind::quoted)
          return wrong(name.text == "domain" ? "a name is missing"
                                             : fmt::format("a value is missing behind {}:", argument.key));
        argument.value = token_.text;
        argument.column = token_.column;
        if (auto read = advance(); !read) return std::unexpected(read.error());
      }
    } else if (name.text == "time" && was_word && token_.kind == Kind::word) {  // days, then hours
      argument.key = std::exchange(argument.value, token_.text);
      if (auto read = advance(); !read) return std::unexpected(read.error());
    }
    return argument;
  }

  Result<Test> make_test(const RuleToken& name, const std::vector<Argument>& given) {
    if (name.text == "src" || name.text == "dst") {
      auto addresses = read_addresses(given);
      if (!addresses) return std::unexpected(addresses.error());
      if (name.text == "src") return SourceIn{std::move(*addresses)};
      return DestinationIn{std::move(*addresses)};
    }
    if (name.text == "sport" || name.text == "dport") {
      auto ports = read_ports(given);
      if (!ports) return std::unexpected(ports.error());
      if (name.text == "sport") return SourcePortIn{std::move(*ports)};
      return DestinationPortIn{std::move(*ports)};
    }
    if (is_client_test(name.text)) return read_client_test(name.text, given, lexer_);
    if (is_place_test(name.text)) return read_place_test(name.text, given, sets_.places, lexer_);
    if (name.text == "proto") return read_transport(given);
    if (name.text == "domain") return read_names(given);
    if (name.text == "app") return read_protocols(given);
    return read_times(given);
  }

  Result<std::shared_ptr<const RangeSet>> read_addresses(const std::vector<Argument>& given) {
    if (given.size() == 1 && given.front().is_set())
      return named(given.front(), sets_.addresses, sets_.domains, "addresses", "domain");
    RangeSet all;
    std::vector<WideRange> ranges;
    ranges.reserve(given.size());
    for (const Argument& argument : given) {
      if (argument.is_set()) {
        auto set = named(argument, sets_.addresses, sets_.domains, "addresses", "domain");
        if (!set) return std::unexpected(set.error());
        ranges.insert(ranges.end(), (*set)->ranges().begin(), (*set)->ranges().end());
        continue;
      }
      const auto prefix = Prefix::parse(argument.value);
      if (!prefix)
        return lexer_.wrong(argument.column, fmt::format("'{}': {}", argument.value, prefix.error().cause),
                            prefix.error().remedy);
      append_network(*prefix, ranges);
    }
    return std::make_shared<const RangeSet>(std::move(ranges));
  }

  /// A set that the configuration names. `others`: sets of another kind, for a better message.
  template <class Set, class Other>
  Result<std::shared_ptr<const Set>> named(const Argument& argument,
                                           const std::map<std::string, std::shared_ptr<const Set>, std::less<>>& known,
                                           const Other& others, std::string_view holds, std::string_view other_test) {
    const std::string name = argument.value.substr(1);
    if (const auto found = known.find(name); found != known.end()) return found->second;
    if (sets_.unusable.contains(name)) {
      auto consequence = lexer_.wrong(argument.column, fmt::format("set '{}' has mistakes", name));
      consequence.error().code = kUnusableSet;
      return consequence;
    }
    if (others.contains(name))
      return lexer_.wrong(argument.column, fmt::format("set '{}' holds no {}", name, holds),
                          fmt::format("it is for {}(@{})", other_test, name));
    return lexer_.wrong(argument.column, fmt::format("there is no set '{}'", name),
                        fmt::format("add {} = [\"…\"] below [sets]", name));
  }

  Result<RangeSet> read_ports(const std::vector<Argument>& given) {
    PortSet all;
    for (const Argument& argument : given) {
      const auto ports = PortSet::parse(argument.value);
      if (!ports) return lexer_.wrong(argument.column, ports.error().cause, ports.error().remedy);
      for (const PortRange& range : ports->ranges()) all.insert(range);
    }
    return RangeSet(all);
  }

  Result<Test> read_transport(const std::vector<Argument>& given) {
    if (given.size() != 1)
      return lexer_.wrong(given[1].column, "proto takes one", "both is what a rule without proto means");
    if (given.front().value == "tcp") return TransportIs{Transport::tcp};
    if (given.front().value == "udp") return TransportIs{Transport::udp};
    return lexer_.wrong(given.front().column, fmt::format("'{}' is not intercepted", given.front().value),
                        "tcp or udp");
  }

  Result<Test> read_names(const std::vector<Argument>& given) {
    NameIn test;
    DomainSet::Builder builder;
    bool has_own = false;
    for (const Argument& argument : given) {
      if (argument.key.empty() && argument.is_set()) {
        auto set = named(argument, sets_.domains, sets_.addresses, "domains", "dst");
        if (!set) return std::unexpected(set.error());
        test.names.push_back(std::move(*set));
        continue;
      }
      DomainMatch match = DomainMatch::exact;
      if (!argument.key.empty()) {
        constexpr std::array kMatches{DomainMatch::exact, DomainMatch::suffix, DomainMatch::keyword,
                                      DomainMatch::regex};
        const auto* found = std::ranges::find(kMatches, argument.key, [](DomainMatch m) { return to_string(m); });
        if (found == kMatches.end())
          return lexer_.wrong(argument.column, fmt::format("'{}:' is no way to match a name", argument.key),
                              "exact: suffix: keyword: regex:");
        match = *found;
      }
      const auto added = builder.add(match, argument.value);
      if (!added)
        return lexer_.wrong(argument.column, fmt::format("'{}': {}", argument.value, added.error().cause),
                            added.error().remedy);
      has_own = true;
    }
    if (has_own) {
      auto own = std::move(builder).build();
      if (!own) return std::unexpected(own.error());
      test.names.push_back(std::make_shared<const DomainSet>(std::move(*own)));
    }
    return test;
  }

  Result<Test> read_protocols(const std::vector<Argument>& given) {
    constexpr std::array kProtocols{AppProtocol::tls, AppProtocol::http, AppProtocol::quic,
                                    AppProtocol::ssh, AppProtocol::dns,  AppProtocol::unknown};
    ProtocolIn test;
    for (const Argument& argument : given) {
      const auto* found = std::ranges::find(kProtocols, argument.value, [](AppProtocol p) { return to_string(p); });
      if (found == kProtocols.end())
        return lexer_.wrong(argument.column, fmt::format("'{}' is not recognised", argument.value),
                            "tls, http, quic, ssh, dns or unknown");
      test.protocols |= 1U << std::to_underlying(*found);
    }
    return test;
  }

  /// "mon-fri", "sat": a range may run over the week's end. Empty: every day.
  Result<std::vector<unsigned>> read_days(const Argument& argument) {
    std::vector<unsigned> days;
    const std::string_view text = argument.key.empty() ? std::string_view("mon-sun") : std::string_view(argument.key);
    const auto day_of = [](std::string_view name) {
      return static_cast<unsigned>(std::ranges::find(kDays, name) - kDays.begin());
    };
    const auto dash = text.find('-');
    const unsigned first = day_of(text.substr(0, dash));
    const unsigned last = dash == std::string_view::npos ? first : day_of(text.substr(dash + 1));
    if (first >= kDays.size() || last >= kDays.size())
      return lexer_.wrong(argument.column, fmt::format("'{}' are no days", text), "write mon-fri, or sat");
    for (unsigned day = first;; day = (day + 1) % 7) {
      days.push_back(day);
      if (day == last) return days;
    }
  }

  /// "08:00"; 24:00 is the end of a day.
  static std::optional<unsigned> minute_of(std::string_view text) {
    unsigned hour = 0;
    unsigned minute = 0;
    if (text.size() != 5 || text[2] != ':') return std::nullopt;
    const auto [hour_end, hour_error] = std::from_chars(text.data(), text.data() + 2, hour);
    const auto [minute_end, minute_error] = std::from_chars(text.data() + 3, text.data() + 5, minute);
    if (hour_error != std::errc{} || minute_error != std::errc{} || hour_end != text.data() + 2 ||
        minute_end != text.data() + 5)
      return std::nullopt;
    const unsigned value = hour * 60 + minute;
    return minute < 60 && value <= kDayMinutes ? std::optional(value) : std::nullopt;
  }

  Result<Test> read_times(const std::vector<Argument>& given) {
    std::vector<WideRange> ranges;
    for (const Argument& argument : given) {
      const auto days = read_days(argument);
      if (!days) return std::unexpected(days.error());
      const auto dash = argument.value.find('-');
      const auto first = minute_of(std::string_view(argument.value).substr(0, dash));
      const auto end =
          dash == std::string::npos ? std::nullopt : minute_of(std::string_view(argument.value).substr(dash + 1));
      if (!first || !end || *first == *end)
        return lexer_.wrong(argument.column, fmt::format("'{}' is no time of the day", argument.value),
                            "write time(mon-fri 08:00-18:00); 22:00-06:00 goes into the next day");
      const unsigned lasts = (*end + kDayMinutes - *first - 1) % kDayMinutes + 1;
      for (const unsigned day : *days) {
        const unsigned begin = day * kDayMinutes + *first;
        for (unsigned minute = begin; minute < begin + lasts;) {
          const unsigned at = minute % kWeekMinutes;
          const unsigned length = std::min(begin + lasts - minute, kWeekMinutes - at);
          ranges.push_back({.first = at, .last = at + length - 1});
          minute += length;
        }
      }
    }
    return TimeIn{RangeSet(std::move(ranges))};
  }

  Status action(Rule& rule) {
    if (token_.kind != Kind::word)
      return wrong("an action is missing", fmt::format("one of: {}", fmt::join(kActions, ", ")));
    const RuleToken name = token_;
    const auto* found = std::ranges::find(kActions, name.text);
    if (found == kActions.end())
      return wrong(fmt::format("there is no action '{}'", name.text), suggestion(name.text, kActions));
    rule.action = static_cast<FlowAction>(found - kActions.begin());
    if (auto read = advance(); !read) return read;
    const bool takes_options = rule.action == FlowAction::direct || rule.action == FlowAction::target;
    if (token_.kind != Kind::open && rule.action == FlowAction::direct) return {};
    if (!takes_options && rule.action != FlowAction::via) {
      if (token_.kind == Kind::open)
        return wrong(fmt::format("{} takes nothing in brackets", name.text), fmt::format("write {}", name.text));
      return {};
    }
    const auto given = arguments(name);
    if (!given) return std::unexpected(given.error());
    std::span<const Argument> options(*given);
    if (rule.action != FlowAction::direct) {
      if (auto read = action_object(rule, options.front()); !read) return read;
      options = options.subspan(1);
    }
    const auto strange = std::ranges::find_if(options, [](const Argument& each) { return each.key != "by-name"; });
    if (!takes_options && strange != options.end())
      return lexer_.wrong(strange->column, fmt::format("{} takes one", name.text), "and by-name: yes, if it should");
    auto leg = read_leg_options(options, lexer_);
    if (!leg) return std::unexpected(leg.error());
    rule.leg = std::move(*leg);
    return check_leg(rule, given->back());
  }

  /// via's group, target's address.
  Status action_object(Rule& rule, const Argument& argument) {
    if (rule.action == FlowAction::via) {
      rule.group = argument.value;
      return {};
    }
    const auto target = SocketAddress::parse(argument.value);
    if (!argument.key.empty() || !target || target->port.value == 0)
      return lexer_.wrong(argument.column, fmt::format("'{}' is not an address with a port", argument.value),
                          "write 192.0.2.1:80 or [2001:db8::1]:80");
    rule.target = *target;
    return {};
  }

  [[nodiscard]] Status check_leg(const Rule& rule, const Argument& last) const {
    if (!rule.leg || !rule.target) return {};
    if (rule.leg->by_name)
      return lexer_.wrong(last.column, "target says where it goes, so no name can", "write direct(by-name: yes)");
    const bool has_source = rule.leg->source_ipv4 || rule.leg->source_ipv6;
    if (!has_source || rule.leg->source(rule.target->family())) return {};
    return lexer_.wrong(last.column, "the source is not of the target's family", "a leg has one family at both ends");
  }

  RuleLexer lexer_;
  const NamedSets& sets_;
  RuleToken token_;
};

}  // namespace

std::string_view to_string(AppProtocol protocol) noexcept {
  switch (protocol) {
    case AppProtocol::unknown: return "unknown";
    case AppProtocol::tls: return "tls";
    case AppProtocol::http: return "http";
    case AppProtocol::quic: return "quic";
    case AppProtocol::ssh: return "ssh";
    case AppProtocol::dns: return "dns";
  }
  return "";
}

std::string_view to_string(FlowAction action) noexcept {
  return kActions.at(std::to_underlying(action));
}

Result<Rule> parse_rule(std::string_view text, const NamedSets& sets) {
  const auto first = text.find_first_not_of(" \t");
  text = first == std::string_view::npos ? std::string_view()
                                         : text.substr(first, text.find_last_not_of(" \t") - first + 1);
  if (text.empty()) return usage_error("rule", "\"\"", "column 1: it is empty", "for example: otherwise -> direct");
  if (text.size() > kLongestRule)
    return usage_error("rule", text.substr(0, 60), "column 1: it is longer than 16 KiB",
                       "put names and networks into a set");
  auto rule = Parser(text, sets).rule();
  if (rule) rule->text = text;
  return rule;
}

}  // namespace limpid
