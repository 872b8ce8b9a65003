// Runs the iptables programs, of either variant, and says in one line what they did not like. What they list is read only as far as our own
// chains go.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "intercept/plan.h"
#include "limpid/error.h"

namespace limpid {

/// Has iptables-restore --noflush read `input`: atomic for each table in it. `object` names it in the error.
[[nodiscard]] Status feed_xtables(Backend backend, Family family, std::string_view input, std::string_view object);

/// What iptables' programs need beside the usual environment. Who is root in a user namespace only cannot open the host's lock file, and
/// has network namespaces of its own, in which nobody else changes rules: no lock there.
[[nodiscard]] std::vector<std::string> xtables_environment();

/// What there is of one instance in one table, as iptables lists it.
struct XtablesPiece {
  Backend backend = Backend::iptables_nft;
  Family family = Family::ipv4;
  std::string table;
  std::string name;  ///< the instance
  std::vector<std::string> chains;
  std::vector<std::string> rules;  ///< in our chains: "-A limpid-pre …"
  std::vector<std::string> jumps;  ///< to our chains: "-A PREROUTING -j limpid-pre"
  std::optional<Ownership> ownership;
  /// "iptables-nft, table mangle: chains limpid-*".
  [[nodiscard]] std::string to_string() const;
};

/// Every piece of every instance, of one family. Nothing where the programs are missing, or have nothing here; lists no table that is
/// not there, because iptables-legacy would make it by asking.
[[nodiscard]] Result<std::vector<XtablesPiece>> find_xtables(Backend backend, Family family);
/// Of both variants and families.
[[nodiscard]] Result<std::vector<XtablesPiece>> find_xtables();
/// The pieces in a listing of iptables-save. Pure.
[[nodiscard]] std::vector<XtablesPiece> parse_xtables(std::string_view listing, Backend backend, Family family);

/// Whether somebody else made them: they have rules, and no table has a comment of ours. `pieces` are of one instance, backend and family.
[[nodiscard]] bool is_foreign(const std::vector<XtablesPiece>& pieces);

/// The input that takes pieces away: what captures first. Pure.
[[nodiscard]] std::string render_removal(std::vector<XtablesPiece> pieces);
/// Loads the tables of `rules`, each in one transaction in which the pieces that are there are replaced. Pure.
[[nodiscard]] std::string render_replacement(const XtablesRuleset& rules, const std::vector<XtablesPiece>& present);

/// Our pieces as text to compare, without what changes by itself.
[[nodiscard]] std::string to_listing(const std::vector<XtablesPiece>& pieces);

/// The first thing that this host lacks of what a plan needs, in words ("iptables-legacy: the TPROXY target, CONFIG_…"), by trying each
/// in a network namespace of its own; empty when each works. Changes nothing.
[[nodiscard]] Result<std::optional<std::string>> find_missing_xtables_feature(Backend backend, const Scope& scope);

}  // namespace limpid
