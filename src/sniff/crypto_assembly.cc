// One bit for each byte says whether it is there: no list of pieces that could be made long, and a time linear in what was received.
#include "sniff/crypto_assembly.h"

#include <algorithm>

namespace limpid {

CryptoAssembly::Added CryptoAssembly::add(std::uint64_t offset, std::span<const std::byte> piece) noexcept {
  if (offset > kMostBytes || piece.size() > kMostBytes - offset) return Added::too_long;
  const auto start = static_cast<std::size_t>(offset);
  for (std::size_t i = 0; i < piece.size(); ++i) {
    const std::size_t at = start + i;
    if (present_[at]) {
      if (bytes_[at] != piece[i]) return Added::contradiction;
      continue;
    }
    bytes_[at] = piece[i];
    present_[at] = true;
  }
  while (contiguous_ < kMostBytes && present_[contiguous_]) ++contiguous_;
  return Added::stored;
}

void CryptoAssembly::clear() noexcept {
  present_.reset();
  contiguous_ = 0;
}

}  // namespace limpid
