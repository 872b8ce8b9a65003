// What holds for every input, for the unit tests and the fuzzers: answers are sound values, and a stream's answer does not depend on how
// it is cut. Violations come back as text; none is "".
#pragma once

#include <cstddef>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "sniff/sniffed.h"

namespace limpid::sniff_properties {

inline bool same(const Sniffed& one, const Sniffed& other) {
  return one.name == other.name && one.alpn == other.alpn && one.protocol == other.protocol &&
         one.doubt == other.doubt && one.ech == other.ech;
}

inline std::string broken_name(const HostName& name) {
  const auto text = name.view();
  if (name.empty()) return text.empty() ? "" : "no name, but text";
  if (text.empty() || text.size() > HostName::kMostBytes) return "a name of no length or too long";
  if (text.ends_with('.') || text.starts_with('.') || text.find("..") != std::string_view::npos)
    return "an empty label";
  const std::string_view allowed =
      name.kind() == HostName::Kind::ipv6 ? "0123456789abcdef:." : "abcdefghijklmnopqrstuvwxyz0123456789-_.";
  if (text.find_first_not_of(allowed) != std::string_view::npos) return "a byte that is not allowed in a name";
  HostName again;
  const bool taken = name.kind() == HostName::Kind::domain ? again.assign_domain(text) : again.assign_host(text);
  if (!taken || !(again == name)) return "a name that is not its own normal form";
  return "";
}

/// Of any answer, of a stream or of datagrams.
inline std::string broken_answer(SniffOutcome outcome, const Sniffed& sniffed) {
  if ((outcome == SniffOutcome::unknown) != (sniffed.doubt != Doubt::none))
    return "a doubt without unknown, or the reverse";
  if (outcome == SniffOutcome::found && sniffed.protocol == SniffedProtocol::none) return "found nothing";
  if (outcome != SniffOutcome::found && (!sniffed.name.empty() || !sniffed.alpn.empty() || sniffed.ech)) {
    return "something found in what is not found";
  }
  if (outcome == SniffOutcome::unknown &&
      (sniffed.doubt == Doubt::unrecognised) != (sniffed.protocol == SniffedProtocol::none)) {
    return "a protocol that is not recognised, or the reverse";
  }
  if (sniffed.alpn.view().find_first_of("\n\r\"\\ \x1b") != std::string_view::npos) return "a hostile byte in ALPN";
  return broken_name(sniffed.name);
}

/// A prefix gives `more` or what the whole gives, and none below bytes_needed is found. Each `step`th prefix is tried.
inline std::string broken_by_cutting(std::span<const std::byte> whole, std::size_t step) {
  Sniffed expected;
  const auto outcome = sniff_stream(whole, expected);
  if (auto broken = broken_answer(outcome, expected); !broken.empty()) return broken;
  if (outcome == SniffOutcome::more && whole.size() >= kMostStreamBytes) return "more, where there is no more to come";
  std::size_t needed = 0;
  for (std::size_t length = 0; length < whole.size(); length += step) {
    Sniffed part;
    // A copy of its own, so that reading beyond it is seen by a sanitizer.
    const std::vector<std::byte> prefix(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    const auto part_outcome = sniff_stream(prefix, part);
    const std::string where = " at " + std::to_string(length) + " of " + std::to_string(whole.size());
    if (auto broken = broken_answer(part_outcome, part); !broken.empty()) return broken + where;
    if (part_outcome != SniffOutcome::more) {
      if (part_outcome != outcome || !same(part, expected)) return "another answer" + where;
      if (part_outcome == SniffOutcome::found && length < needed)
        return "found before the bytes that were needed" + where;
      continue;
    }
    if (part.bytes_needed <= length || part.bytes_needed > kMostStreamBytes) return "a need that says nothing" + where;
    needed = std::max<std::size_t>(needed, part.bytes_needed);
  }
  if (outcome == SniffOutcome::found && whole.size() < needed) return "found before the bytes that were needed";
  return "";
}

inline std::vector<std::byte> mutated(const std::vector<std::byte>& original, std::mt19937& random) {
  auto mutant = original;
  const auto below = [&](std::size_t bound) {
    return bound == 0 ? 0 : std::uniform_int_distribution<std::size_t>(0, bound - 1)(random);
  };
  for (std::size_t changes = 1 + below(4); changes > 0 && !mutant.empty(); --changes) {
    const auto at = mutant.begin() + static_cast<std::ptrdiff_t>(below(mutant.size()));
    switch (below(5)) {
      case 0: *at = static_cast<std::byte>(random()); break;
      case 1: *at ^= static_cast<std::byte>(1U << below(8)); break;
      case 2: mutant.insert(at, static_cast<std::byte>(random())); break;
      case 3: mutant.erase(at); break;
      default: {
        const std::vector<std::byte> piece(at, at + static_cast<std::ptrdiff_t>(std::min<std::size_t>(
                                                        below(64), static_cast<std::size_t>(mutant.end() - at))));
        mutant.insert(mutant.begin() + static_cast<std::ptrdiff_t>(below(mutant.size())), piece.begin(), piece.end());
      }
    }
  }
  return mutant;
}

}  // namespace limpid::sniff_properties
