// Reads the rules that xtables_rules.cc writes, as iptables lists them: the jumps of pre and out hold the ports, dst and src the networks and
// interfaces, tpx and lo what is captured. Beside the scope it says what cannot be as we wrote it: a chain that nothing enters, or that is
// empty, and ports that one family has and another lacks.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>
#include <utility>

#include "intercept/installed_scope.h"
#include "limpid/prefix.h"

namespace limpid {
namespace {

/// A rule of ours, in words: "-A limpid-pre -p tcp …". Quoted words hold no spaces where it matters.
class Rule {
 public:
  explicit Rule(std::string_view line) {
    while (!line.empty()) {
      const auto end = std::min(line.find(' '), line.size());
      if (end > 0) words_.push_back(line.substr(0, end));
      line.remove_prefix(std::min(end + 1, line.size()));
    }
  }
  [[nodiscard]] bool has(std::string_view word) const { return std::ranges::find(words_, word) != words_.end(); }
  /// The word behind a flag; empty where there is none.
  [[nodiscard]] std::string_view after(std::string_view flag) const {
    const auto found = std::ranges::find(words_, flag);
    return found == words_.end() || found + 1 == words_.end() ? std::string_view() : *(found + 1);
  }
  /// "tpx" of "-g limpid-tpx".
  [[nodiscard]] std::string_view next() const { return suffix_of(after("-g")); }
  [[nodiscard]] std::string_view chain() const { return suffix_of(after("-A")); }
  /// Without a condition: "-A CHAIN -g NEXT".
  [[nodiscard]] bool is_unconditional() const { return words_.size() == 4; }

  static std::string_view suffix_of(std::string_view chain) {
    const auto dash = chain.rfind('-');
    return dash == std::string_view::npos ? std::string_view() : chain.substr(dash + 1);
  }

 private:
  std::vector<std::string_view> words_;
};

struct Ports {
  std::string tcp;
  std::string udp;
};

/// "80,8000:8100" of --dport or --dports, as PortSet reads it.
void read_ports(const Rule& rule, Ports& ports) {
  std::string text(rule.after(rule.has("--dports") ? "--dports" : "--dport"));
  std::ranges::replace(text, ':', '-');
  std::string& all = rule.after("-p") == "udp" ? ports.udp : ports.tcp;
  if (!text.empty()) all += (all.empty() ? "" : ",") + text;
}

PortSet set_of(const std::string& text) {
  return PortSet::parse(text).value_or(PortSet());
}

struct Jump {
  std::string_view table;
  std::string_view chain;
  std::string_view from;
};
constexpr std::array kJumps = {
    Jump{"raw", "pre", "PREROUTING"},     Jump{"raw", "out", "OUTPUT"},    Jump{"mangle", "pre", "PREROUTING"},
    Jump{"mangle", "out", "OUTPUT"},      Jump{"mangle", "rem", "OUTPUT"}, Jump{"mangle", "in", "INPUT"},
    Jump{"mangle", "lek", "POSTROUTING"}, Jump{"filter", "grd", "INPUT"},
};

/// What one family's rules say.
struct FamilyReader {
  Family family = Family::ipv4;
  Ports forwarded_ports;
  Ports local_ports;
  std::vector<Prefix> excluded, to, from;
  std::vector<std::string> interfaces;
  bool to_anywhere = false;
  bool complete = true;
  std::map<std::string, unsigned, std::less<>> sizes;  ///< of our chains, by "mangle tpx"
  std::vector<std::string> captured;                   ///< "tpx tcp": what TPROXY takes

  [[nodiscard]] bool has(std::string_view chain) const { return sizes.contains(chain); }
  [[nodiscard]] bool captures(std::string_view chain, std::string_view protocol) const {
    return std::ranges::find(captured, fmt::format("{} {}", chain, protocol)) != captured.end();
  }

  void read(const XtablesPiece& piece) {
    for (const std::string& chain : piece.chains) sizes[fmt::format("{} {}", piece.table, Rule::suffix_of(chain))];
    for (const std::string& line : piece.rules) {
      const Rule rule(line);
      ++sizes[fmt::format("{} {}", piece.table, rule.chain())];
      if (piece.table != "filter") read(rule, piece.table);
      if (piece.table == "filter" && rule.chain() == "grd") complete = false;
    }
  }

  void read(const Rule& rule, std::string_view table) {
    const std::string_view chain = rule.chain();
    if (chain == "own" && rule.has("--ctstate")) complete = false;
    if (chain == "pre" && rule.next() == "dst") read_ports(rule, forwarded_ports);
    if (chain == "out" && table == "mangle" && rule.next() == "lsc") read_ports(rule, local_ports);
    if (chain == "dst" || chain == "lsc") read_destination(rule);
    if (chain == "src") read_source(rule);
    if (rule.after("-j") == "TPROXY") captured.push_back(fmt::format("{} {}", chain, rule.after("-p")));
  }

  std::optional<Prefix> prefix_of(std::string_view text) {
    if (text.empty()) return std::nullopt;
    const auto parsed = Prefix::parse(text);
    complete = complete && parsed.has_value();
    return parsed ? std::optional(*parsed) : std::nullopt;
  }

  static void add(std::vector<Prefix>& prefixes, const std::optional<Prefix>& prefix) {
    if (prefix && std::ranges::find(prefixes, *prefix) == prefixes.end()) prefixes.push_back(*prefix);
  }

  void read_destination(const Rule& rule) {
    const auto prefix = prefix_of(rule.after("-d"));
    if (rule.after("-j") == "RETURN") {
      if (rule.is_unconditional()) add(excluded, Prefix::everything(family));
      // What no scope has: link-local addresses, and multicast in IPv6.
      const bool never = prefix && ((prefix->network().is_link_local() && prefix->length() <= 16) ||
                                    prefix->to_string() == "ff00::/8");
      if (!never) add(excluded, prefix);
    } else if (!rule.next().empty()) {
      to_anywhere = to_anywhere || rule.is_unconditional();
      add(to, prefix);
    }
  }

  void read_source(const Rule& rule) {
    if (rule.next().empty()) return;
    if (rule.is_unconditional()) add(from, Prefix::everything(family));
    add(from, prefix_of(rule.after("-s")));
    const std::string name(rule.after("-i"));
    if (!name.empty() && std::ranges::find(interfaces, name) == interfaces.end()) interfaces.push_back(name);
  }

  /// Nothing new is captured, in the way that begin_drain() does it.
  [[nodiscard]] bool drains() const {
    const auto empty = [&](std::string_view chain) {
      const auto found = sizes.find(chain);
      return found != sizes.end() && found->second == 0;
    };
    if (has("mangle tpx")) {
      const auto rules = sizes.find("mangle tpx")->second;  // none, or MARK and ACCEPT
      return empty("mangle tpx") ||
             (rules == 2 && has("mangle dead") && !captures("tpx", "tcp") && !captures("tpx", "udp"));
    }
    return empty("mangle lsc") || (has("mangle lek") && empty("mangle lo"));
  }
};

class Reader {
 public:
  Reader(const std::vector<XtablesPiece>& pieces, const Ownership& owner) : pieces_(pieces), owner_(owner) {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      FamilyReader reader;
      reader.family = family;
      for (const XtablesPiece& piece : pieces) {
        if (piece.family == family) reader.read(piece);
      }
      // Chains that a flush has left are nobody's rules.
      if (std::ranges::any_of(pieces, [&](const XtablesPiece& p) { return p.family == family && !p.rules.empty(); }))
        families_.push_back(std::move(reader));
    }
  }

  InstalledScope read() {
    Scope& scope = installed_.scope;
    scope.ipv4 = std::ranges::any_of(families_, [](const FamilyReader& r) { return r.family == Family::ipv4; });
    scope.ipv6 = std::ranges::any_of(families_, [](const FamilyReader& r) { return r.family == Family::ipv6; });
    scope.forwarded = any_has("mangle tpx");
    if (any_has("mangle lsc")) scope.local = LocalScope{};
    installed_.keeps_tcp_port = any_has("raw rdv");
    // Without a heart, TPROXY drops where nobody listens.
    installed_.fail = !owner_.heartbeat || any_has("mangle dead") || any_has("mangle lek") || any_has("filter rej")
                          ? FailMode::closed
                          : FailMode::open;
    installed_.draining = owner_.keeper == Keeper::process && !families_.empty() &&
                          std::ranges::all_of(families_, [](const FamilyReader& r) { return r.drains(); });
    read_selection();
    for (const FamilyReader& reader : families_) look_for_gaps(reader);
    return std::move(installed_);
  }

 private:
  [[nodiscard]] bool any_has(std::string_view chain) const {
    return std::ranges::any_of(families_, [&](const FamilyReader& r) { return r.has(chain); });
  }

  void read_selection() {
    Scope& scope = installed_.scope;
    Ports all;
    const auto join = [](std::string& to, const std::string& from) {
      if (!from.empty()) to += (to.empty() ? "" : ",") + from;
    };
    const bool names_destinations = std::ranges::any_of(families_, [](const FamilyReader& r) { return !r.to.empty(); });
    for (const FamilyReader& reader : families_) {
      for (const Ports* ports : {&reader.forwarded_ports, &reader.local_ports}) {
        join(all.tcp, ports->tcp);
        join(all.udp, ports->udp);
      }
      installed_.complete = installed_.complete && reader.complete;
      std::ranges::copy(reader.excluded, std::back_inserter(scope.excluded));
      std::ranges::copy(reader.to, std::back_inserter(scope.to_prefixes));
      // Beside a family of which some networks are named, all of another's were.
      if (names_destinations && reader.to_anywhere) scope.to_prefixes.push_back(Prefix::everything(reader.family));
      std::ranges::copy(reader.from, std::back_inserter(scope.from_prefixes));
      for (const std::string& name : reader.interfaces) {
        if (std::ranges::find(scope.from_interfaces, name) == scope.from_interfaces.end())
          scope.from_interfaces.push_back(name);
      }
    }
    scope.tcp = set_of(all.tcp);
    scope.udp = set_of(all.udp);
  }

  void miss(Family family, std::string what) {
    installed_.missing.push_back(fmt::format("{}: {}", to_string(family), what));
  }

  [[nodiscard]] bool jumps(Family family, const Jump& jump) const {
    const std::string wanted = fmt::format("-A {} -j {}", jump.from, xtables_chain(owner_.name, jump.chain));
    return std::ranges::any_of(pieces_, [&](const XtablesPiece& piece) {
      return piece.family == family && piece.table == jump.table &&
             std::ranges::find(piece.jumps, wanted) != piece.jumps.end();
    });
  }

  void look_for_jump(const FamilyReader& reader, const Jump& jump) {
    if (!reader.has(fmt::format("{} {}", jump.table, jump.chain)) || jumps(reader.family, jump)) return;
    miss(reader.family, fmt::format("in table {}, the jump from {} to {}", jump.table, jump.from,
                                    xtables_chain(owner_.name, jump.chain)));
  }

  void look_for_gaps(const FamilyReader& reader) {
    for (const Jump& jump : kJumps) look_for_jump(reader, jump);
    if (installed_.scope.forwarded) look_for_jump(reader, {"filter", "rej", "FORWARD"});
    if (installed_.scope.local) look_for_jump(reader, {"filter", "rej", "INPUT"});
    if (!reader.has("mangle pre")) miss(reader.family, "its chains in table mangle");
    if ((installed_.keeps_tcp_port || owner_.keeps_udp_port) && !reader.has("raw pre"))
      miss(reader.family, "its chains in table raw");
    if (installed_.fail == FailMode::closed && owner_.heartbeat && !reader.has("filter rej"))
      miss(reader.family, "its chains in table filter");
    for (const auto& [chain, size] : reader.sizes) {
      if (size == 0 && !installed_.draining) {
        const auto space = chain.find(' ');
        miss(reader.family, fmt::format("in table {}, the rules of {}", chain.substr(0, space),
                                        xtables_chain(owner_.name, chain.substr(space + 1))));
      }
    }
    if (installed_.draining) return;
    if (reader.has("mangle tpx")) look_for_ports(reader, reader.forwarded_ports, "pre", "tpx");
    if (reader.has("mangle lsc")) look_for_ports(reader, reader.local_ports, "out", "lo");
  }

  void look_for_ports(const FamilyReader& reader, const Ports& ports, std::string_view selects,
                      std::string_view takes) {
    const Scope& scope = installed_.scope;
    for (const auto& [protocol, wanted, there] :
         {std::tuple{"tcp", &scope.tcp, &ports.tcp}, std::tuple{"udp", &scope.udp, &ports.udp}}) {
      if (set_of(*there) != *wanted)
        miss(reader.family,
             fmt::format("rules of {} for some {} ports", xtables_chain(owner_.name, selects), protocol));
      if (!wanted->empty() && !reader.captures(takes, protocol))
        miss(reader.family, fmt::format("the TPROXY rule of {} for {}", xtables_chain(owner_.name, takes), protocol));
    }
  }

  const std::vector<XtablesPiece>& pieces_;
  const Ownership& owner_;
  std::vector<FamilyReader> families_;
  InstalledScope installed_;
};

}  // namespace

InstalledScope read_installed_scope(const std::vector<XtablesPiece>& pieces, const Ownership& owner) {
  std::vector<XtablesPiece> mine;
  std::ranges::copy_if(pieces, std::back_inserter(mine), [&](const XtablesPiece& piece) {
    return piece.name == owner.name && piece.backend == owner.backend;
  });
  return Reader(mine, owner).read();
}

}  // namespace limpid
