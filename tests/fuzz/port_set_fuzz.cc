// PortSet::parse: whatever is accepted is in canonical order and survives printing.
#include <cstdint>
#include <string_view>

#include "limpid/port_set.h"
#include "tests/fuzz/property.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = limpid::fuzz::as_text(data, size);
  const auto set = limpid::PortSet::parse(text);
  if (!set) {
    limpid::fuzz::check_user_error(set.error());
    return 0;
  }
  limpid::fuzz::check(!set->empty(), "an accepted list names a port");
  unsigned previous = 0;
  for (const auto& range : set->ranges()) {
    limpid::fuzz::check(range.first <= range.last, "a range runs forward");
    limpid::fuzz::check(range.first.value >= (previous == 0 ? 1U : previous + 2U), "ranges neither overlap nor touch");
    limpid::fuzz::check(set->contains(range.first) && set->contains(range.last), "the ends of a range are in it");
    previous = range.last.value;
  }
  limpid::fuzz::check(!set->contains(limpid::Port{0}), "port 0 is never meant");
  limpid::fuzz::check(limpid::PortSet::parse(set->to_string()) == *set, "what is printed parses to the same set");
  return 0;
}
