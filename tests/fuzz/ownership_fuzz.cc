// Ownership::from_comment: the comment of a table in the kernel, which anybody with the right to may have written.
#include <cstdint>

#include "intercept/plan.h"
#include "tests/fuzz/property.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto ownership = limpid::Ownership::from_comment("limpid", limpid::fuzz::as_text(data, size));
  if (!ownership) return 0;
  const auto comment = ownership->to_comment();
  limpid::fuzz::check(comment.size() <= 127, "the comment fits into nftables' user data");
  limpid::fuzz::check(limpid::Ownership::from_comment("limpid", comment) == *ownership,
                      "what is written is read again");
  limpid::fuzz::check(ownership->name == "limpid", "the name is the table's");
  return 0;
}
