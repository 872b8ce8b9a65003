// Prefix::parse: an accepted block has no host bits, contains its network and survives printing.
#include <cstdint>

#include "limpid/prefix.h"
#include "tests/fuzz/property.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto prefix = limpid::Prefix::parse(limpid::fuzz::as_text(data, size));
  if (!prefix) {
    limpid::fuzz::check_user_error(prefix.error());
    return 0;
  }
  limpid::fuzz::check(prefix->length() <= prefix->network().bits(), "the length fits the family");
  limpid::fuzz::check(prefix->contains(prefix->network()), "a block contains its network");
  limpid::fuzz::check(limpid::Prefix::parse(prefix->to_string()) == *prefix,
                      "what is printed parses to the same block");
  for (unsigned bit = prefix->length(); bit < prefix->network().bits(); ++bit) {
    const auto byte = prefix->network().bytes().at(bit / 8);
    limpid::fuzz::check((byte & (0x80U >> (bit % 8))) == 0, "bits behind the length are zero");
  }
  return 0;
}
