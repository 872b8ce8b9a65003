// Mark::parse: an accepted mark lies inside its mask and survives printing.
#include <cstdint>

#include "limpid/mark.h"
#include "tests/fuzz/property.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto mark = limpid::Mark::parse(limpid::fuzz::as_text(data, size));
  if (!mark) {
    limpid::fuzz::check_user_error(mark.error());
    return 0;
  }
  limpid::fuzz::check((mark->value & ~mark->mask) == 0, "no bit of the value lies outside the mask");
  limpid::fuzz::check(limpid::Mark::parse(mark->to_string()) == *mark, "what is printed parses to the same mark");
  return 0;
}
