// parse_listing and its like: text of others, of any shape; what they find has a handle or a name.
#include <cstdint>

#include "explain/evidence.h"
#include "explain/listing.h"
#include "net/drop_reasons.h"
#include "tests/fuzz/property.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = limpid::fuzz::as_text(data, size);
  for (const auto& [name, chain] : limpid::parse_listing(text)) {
    for (const auto& rule : chain.rules) limpid::fuzz::check(rule.handle != 0, "every rule has a handle");
  }
  for (const auto& table : limpid::parse_legacy_tables(text)) {
    limpid::fuzz::check(table.find('\n') == std::string::npos, "a table's name is of one line");
  }
  (void)limpid::parse_iptables_rules(text, "INPUT");
  (void)limpid::parse_paired_counters(text);
  (void)limpid::parse_drop_format(text);
  return 0;
}
