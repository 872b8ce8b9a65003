// Writes the text of an nft table line by line, and knows the rules that its chains have in common: by family, by port,
// by destination, by mark.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

#include "intercept/plan.h"

namespace limpid {

inline constexpr std::array kFamilies = {Family::ipv4, Family::ipv6};

/// Not a first packet of a connection: an answer, an end or a reset, or in the middle.
inline constexpr std::string_view kNotSyn = "tcp flags & (fin | syn | rst | ack) != syn";

/// "ipv4" or "ipv6"; "ip" or "ip6".
[[nodiscard]] std::string_view nft_family(Family family);
[[nodiscard]] std::string_view nft_header(Family family);
[[nodiscard]] bool in_scope(const Scope& scope, Family family);

/// One family's prefixes, sorted, without those that another one contains.
[[nodiscard]] std::vector<Prefix> disjoint(const std::vector<Prefix>& prefixes, Family family);
[[nodiscard]] bool is_everything(const std::vector<Prefix>& disjoint_prefixes);

class TableWriter {
 public:
  /// `inputs` must outlive it.
  explicit TableWriter(const PlanInputs& inputs) : inputs_(inputs), scope_(inputs.scope) {}

  [[nodiscard]] const PlanInputs& inputs() const { return inputs_; }
  [[nodiscard]] std::string take() { return std::move(text_); }

  void line(unsigned depth, std::string_view content);
  /// A line of a chain.
  void rule(std::string_view content, std::string_view comment);
  void begin_chain(std::string_view name);
  void end_chain();

  /// A set ROLE_FAMILY for each family that has too many prefixes for rules of their own.
  void add_prefix_sets(std::string_view role, const std::vector<Prefix>& prefixes);
  /// Rules that give `verdict` to what goes to (FIELD daddr), or comes from (saddr), one of the prefixes.
  void add_prefix_rules(std::string_view role, std::string_view field, const std::vector<Prefix>& prefixes,
                        std::string_view verdict);
  /// Rules for what goes to one of the ports (FIELD dport), or comes from one (sport).
  void add_port_rules(std::string_view protocol, std::string_view field, const PortSet& ports,
                      std::string_view verdict);
  void leave_other_family_alone();
  /// What goes to the ports in scope goes to chain `next`.
  void add_selection_by_port(std::string_view next, bool with_udp = true);
  /// Selects by destination; what is left goes to chain `next` where destinations are named, and else to what follows here.
  void add_destinations(std::string_view next);

  /// Sets our bits of the mark and leaves everybody else's as they are.
  [[nodiscard]] std::string set_intercept_mark() const;
  [[nodiscard]] std::string has_bypass_mark() const;
  [[nodiscard]] std::string has_local_mark() const;

 protected:
  const PlanInputs& inputs_;
  const Scope& scope_;

 private:
  std::string text_;
};

}  // namespace limpid
