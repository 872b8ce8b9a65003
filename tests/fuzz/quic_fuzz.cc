// QuicSniffer: the input as datagrams, cut at lengths that it names itself; and as the frames of Initials that are protected rightly, since
// no fuzzer guesses an authentication tag.
#include <algorithm>
#include <array>

#include "sniff/quic_sniffer.h"
#include "tests/fuzz/stream_property.h"
#include "tests/unit/sniff/quic_writer.h"

namespace {

using limpid::SniffOutcome;

limpid::QuicCrypto& crypto() {
  static auto instance = limpid::QuicCrypto::open();
  limpid::fuzz::check(instance.has_value(), "libcrypto has what is needed");
  return *instance;
}

/// The next piece of the input, as long as its first two bytes say.
std::span<const std::byte> next_piece(std::span<const std::byte>& input) {
  if (input.size() < 2) {
    input = {};
    return {};
  }
  const std::size_t length = std::to_integer<std::size_t>(input[0]) << 8U | std::to_integer<std::size_t>(input[1]);
  const auto piece = input.subspan(2, std::min(length, input.size() - 2));
  input = input.subspan(2 + piece.size());
  return piece;
}

bool give(limpid::QuicSniffer& sniffer, std::span<const std::byte> datagram) {
  limpid::Sniffed sniffed;
  const std::vector<std::byte> copy(datagram.begin(), datagram.end());
  const auto outcome = sniffer.take(crypto(), copy, sniffed);
  const auto broken = limpid::sniff_properties::broken_answer(outcome, sniffed);
  limpid::fuzz::check(broken.empty(), broken.c_str());
  return outcome == SniffOutcome::more;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  {
    limpid::QuicSniffer sniffer;
    unsigned taken = 0;
    for (auto rest = input; !rest.empty();) {
      if (!give(sniffer, next_piece(rest))) break;
      limpid::fuzz::check(++taken <= limpid::QuicSniffer::kMostDatagrams, "it ends");
    }
  }
  limpid::QuicSniffer sniffer;
  constexpr std::array<std::byte, 8> destination{};
  std::uint32_t number = 0;
  for (auto rest = input; !rest.empty(); ++number) {
    const auto frames = next_piece(rest);
    std::vector<std::byte> payload(frames.begin(), frames.end());
    payload.resize(std::max<std::size_t>(payload.size(), limpid::QuicSniffer::kLeastDatagramBytes));
    if (!give(sniffer, limpid::sniff_corpus::protected_initial(crypto(), destination, number, payload))) break;
  }
  return 0;
}
