// See xtables.h. What goes in comes from xtables_rules.cc; what comes out is compared as text, and searched for our own chains.
#include "intercept/xtables.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <sstream>
#include <tuple>
#include <utility>

#include "base/file_text.h"
#include "base/process.h"

namespace limpid {
namespace {

constexpr std::string_view kPackage = "iptables";
constexpr std::array kVariants = {Backend::iptables_nft, Backend::iptables_legacy};
constexpr std::array kBothFamilies = {Family::ipv4, Family::ipv6};

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const auto end = text.find('\n');
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

/// The line of the input that a complaint names ("line 24: …", "Error occurred at line: 5"), unless it is a COMMIT: then nobody knows.
std::string_view line_named_by(std::string_view complaint, std::string_view input) {
  const auto at = complaint.find("line");
  if (at == std::string_view::npos) return {};
  complaint.remove_prefix(at + 4);
  complaint.remove_prefix(std::min(complaint.find_first_not_of(": "), complaint.size()));
  std::size_t number = 0;
  if (std::from_chars(complaint.data(), complaint.data() + complaint.size(), number).ec != std::errc{}) return {};
  const auto lines = lines_of(input);
  if (number == 0 || number > lines.size() || lines[number - 1] == "COMMIT") return {};
  return lines[number - 1];
}

/// One line out of several: "iptables-nft-restore v1.8.9 (nf_tables): ", "line 24: RULE_APPEND failed (Invalid argument): …".
std::string cause_of(std::string_view complaint, std::string_view input) {
  std::string cause;
  for (std::string_view line : lines_of(complaint)) {
    if (line.starts_with("Try `") || line.starts_with("# Warning") || line.starts_with("Perhaps ")) continue;
    if (const auto version = line.find("): "); line.starts_with("ip") && version != std::string_view::npos)
      line.remove_prefix(version + 3);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    if (!cause.empty()) cause += ", ";
    cause += line;
  }
  if (cause.empty()) return "it said nothing";
  const auto quote = line_named_by(complaint, input);
  return quote.empty() ? cause : fmt::format("{}, at `{}`", cause, quote.substr(0, 160));
}

Result<std::string> run(Backend backend, Family family, std::string_view verb, std::vector<std::string> arguments,
                        std::string_view input, std::string_view operation, std::string_view object) {
  const std::string name = xtables_program(backend, family, verb);
  auto program = find_system_program(name, kPackage);
  if (!program) return std::unexpected(program.error());
  arguments.insert(arguments.begin(), *program);
  auto output = run_process(arguments, input, std::chrono::seconds(60), xtables_environment());
  if (!output) return std::unexpected(output.error());
  if (output->exit_status == 0) return std::move(output->standard_output);
  const std::string& complaint = output->standard_error;
  if (complaint.find("open lock file") != std::string::npos) {
    return unsupported(
        operation, object, fmt::format("{}: {}", name, cause_of(complaint, input)),
        "the lock must be there before a unit or container starts: systemd-tmpfiles --create limpid.conf, or touch "
        "/run/xtables.lock");
  }
  for (const std::string_view refusal : {"Permission denied", "Operation not permitted", "must be root"}) {
    if (complaint.find(refusal) != std::string::npos)
      return unsupported(operation, object, fmt::format("{}: {}", name, cause_of(complaint, input)),
                         "needs CAP_NET_ADMIN: run as root");
  }
  if (complaint.find("xtables lock") != std::string::npos)
    return failure(operation, object, "another program holds iptables' lock for more than ten seconds",
                   "find it with `fuser /run/xtables.lock`");
  return failure(operation, object, fmt::format("{}: {}", name, cause_of(complaint, input)));
}

/// "limpid-pre" of ":limpid-pre - [0:0]", or the chain after a flag.
std::string_view word_after(std::string_view line, std::string_view opening) {
  if (!line.starts_with(opening)) return {};
  line.remove_prefix(opening.size());
  return line.substr(0, line.find(' '));
}

XtablesPiece& piece_of(std::vector<XtablesPiece>& pieces, std::string_view table, const std::string& name,
                       Backend backend, Family family) {
  const auto found =
      std::ranges::find_if(pieces, [&](const XtablesPiece& p) { return p.table == table && p.name == name; });
  if (found != pieces.end()) return *found;
  XtablesPiece piece;
  piece.backend = backend;
  piece.family = family;
  piece.table = table;
  piece.name = name;
  pieces.push_back(std::move(piece));
  return pieces.back();
}

/// The comment in "-A limpid-own -m comment --comment "…"".
void read_ownership(std::string_view rule, XtablesPiece& piece) {
  const std::string opening = fmt::format("-A {} -m comment --comment \"", xtables_chain(piece.name, "own"));
  if (!rule.starts_with(opening) || !rule.ends_with('"')) return;
  rule.remove_prefix(opening.size());
  rule.remove_suffix(1);
  if (auto ownership = Ownership::from_comment(piece.name, rule, piece.backend))
    piece.ownership = std::move(*ownership);
}

bool legacy_is_in_use(Family family) {
  const auto path =
      family == Family::ipv4 ? "/proc/thread-self/net/ip_tables_names" : "/proc/thread-self/net/ip6_tables_names";
  return ::access(path, F_OK) == 0;
}

void add_removal(std::string& text, const XtablesPiece& piece) {
  text += fmt::format("*{}\n", piece.table);
  for (const std::string& jump : piece.jumps) text += fmt::format("-D {}\n", jump.substr(3));
  for (const std::string& chain : piece.chains) text += fmt::format("-F {}\n", chain);
  for (const std::string& chain : piece.chains) text += fmt::format("-X {}\n", chain);
  text += "COMMIT\n";
}

}  // namespace

std::string XtablesPiece::to_string() const {
  return fmt::format("{}{}, table {}: chains {}-*", family == Family::ipv4 ? "" : "IPv6 ", limpid::to_string(backend),
                     table, table_name_of(name));
}

std::vector<std::string> xtables_environment() {
  // user_namespaces(7): the initial one maps everything to itself.
  const std::string map = read_text("/proc/thread-self/uid_map");
  std::istringstream words(map);
  std::uint64_t inside = 0;
  std::uint64_t outside = 0;
  std::uint64_t count = 0;
  const bool initial = !(words >> inside >> outside >> count) || (inside == outside && count == 4294967295);
  // As iptables opens it (xtables_lock() in xshared.c of 1.8).
  constexpr const char* kLock = "/run/xtables.lock";
  const bool can_lock = ::access(kLock, R_OK) == 0 || (::access(kLock, F_OK) != 0 && ::access("/run", W_OK) == 0);
  if (initial || can_lock) return {};
  return {"XTABLES_LOCKFILE=/dev/null"};
}

Status feed_xtables(Backend backend, Family family, std::string_view input, std::string_view object) {
  auto output = run(backend, family, "restore", {"-w", "10", "--noflush"}, input, "change", object);
  if (!output) return std::unexpected(output.error());
  return {};
}

std::vector<XtablesPiece> parse_xtables(std::string_view listing, Backend backend, Family family) {
  std::vector<XtablesPiece> pieces;
  std::string table;
  for (const std::string_view line : lines_of(listing)) {
    if (line.starts_with('*')) {
      table = line.substr(1);
    } else if (const auto chain = word_after(line, ":"); !chain.empty()) {
      if (const auto name = instance_of_chain(chain))
        piece_of(pieces, table, *name, backend, family).chains.emplace_back(chain);
    } else if (const auto from = word_after(line, "-A "); !from.empty()) {
      if (const auto name = instance_of_chain(from)) {
        XtablesPiece& piece = piece_of(pieces, table, *name, backend, family);
        piece.rules.emplace_back(line);
        read_ownership(line, piece);
        continue;
      }
      const auto target = word_after(line, fmt::format("-A {} -j ", from));
      // A rule that says more than we ever say is somebody else's.
      if (const auto name = instance_of_chain(target); name && line.ends_with(target))
        piece_of(pieces, table, *name, backend, family).jumps.emplace_back(line);
    }
  }
  return pieces;
}

Result<std::vector<XtablesPiece>> find_xtables(Backend backend, Family family) {
  if (backend == Backend::iptables_legacy && !legacy_is_in_use(family)) return std::vector<XtablesPiece>{};
  if (!find_system_program(xtables_program(backend, family, "save"), kPackage)) return std::vector<XtablesPiece>{};
  auto listing = run(backend, family, "save", {}, {}, "list", fmt::format("the rules of {}", to_string(backend)));
  if (listing) return parse_xtables(*listing, backend, family);
  const Error& error = listing.error();
  // A kernel without nftables has no rules in it.
  if (error.kind != ErrorKind::unsupported && error.cause.find("initialize nft") != std::string::npos)
    return std::vector<XtablesPiece>{};
  return std::unexpected(error);
}

Result<std::vector<XtablesPiece>> find_xtables() {
  std::vector<XtablesPiece> all;
  for (const Backend backend : kVariants) {
    for (const Family family : kBothFamilies) {
      auto pieces = find_xtables(backend, family);
      if (!pieces) return pieces;
      std::ranges::move(*pieces, std::back_inserter(all));
    }
  }
  return all;
}

bool is_foreign(const std::vector<XtablesPiece>& pieces) {
  const bool ours = std::ranges::any_of(pieces, [](const XtablesPiece& p) { return p.ownership.has_value(); });
  return !ours && std::ranges::any_of(pieces, [](const XtablesPiece& p) { return !p.rules.empty(); });
}

std::string render_removal(std::vector<XtablesPiece> pieces) {
  std::ranges::stable_sort(pieces, {}, [](const XtablesPiece& piece) { return piece.table != "mangle"; });
  std::string text;
  for (const XtablesPiece& piece : pieces) add_removal(text, piece);
  return text;
}

std::string render_replacement(const XtablesRuleset& rules, const std::vector<XtablesPiece>& present) {
  std::string text;
  for (const XtablesTable& table : rules.tables) {
    const auto old = std::ranges::find(present, table.name, &XtablesPiece::table);
    text += fmt::format("*{}\n", table.name);
    for (const std::string& chain : table.chains) text += fmt::format(":{} - [0:0]\n", chain);
    if (old != present.end()) {
      for (const std::string& jump : old->jumps) text += fmt::format("-D {}\n", jump.substr(3));
    }
    for (const std::string& rule : table.rules) text += fmt::format("-A {}\n", rule);
    for (const XtablesJump& jump : table.jumps) text += fmt::format("-I {} 1 -j {}\n", jump.from, jump.to);
    if (old != present.end()) {
      std::vector<std::string> stale;
      std::ranges::copy_if(old->chains, std::back_inserter(stale), [&](const std::string& chain) {
        return std::ranges::find(table.chains, chain) == table.chains.end();
      });
      for (const std::string& chain : stale) text += fmt::format("-F {}\n", chain);
      for (const std::string& chain : stale) text += fmt::format("-X {}\n", chain);
    }
    text += "COMMIT\n";
  }
  for (const XtablesPiece& piece : present) {
    if (std::ranges::find(rules.tables, piece.table, &XtablesTable::name) == rules.tables.end())
      add_removal(text, piece);
  }
  return text;
}

std::string to_listing(const std::vector<XtablesPiece>& pieces) {
  std::vector<const XtablesPiece*> sorted;
  sorted.reserve(pieces.size());
  for (const XtablesPiece& piece : pieces) sorted.push_back(&piece);
  std::ranges::sort(sorted, {}, [](const XtablesPiece* p) { return std::tuple(p->family, p->table, p->name); });
  std::string text;
  for (const XtablesPiece* piece : sorted) {
    text += fmt::format("{}, table {}\n", xtables_program(piece->backend, piece->family, "save"), piece->table);
    for (const std::string& chain : piece->chains) text += fmt::format(":{}\n", chain);
    for (const std::string& jump : piece->jumps) text += jump + '\n';
    for (const std::string& rule : piece->rules) text += rule + '\n';
  }
  return text;
}

}  // namespace limpid
