// A request of one piece, an answer of eight bytes. In SOCKS4a, 0.0.0.x with x ≠ 0 announces a name behind the user.
#include "upstream/socks4.h"

#include <algorithm>

namespace limpid {

Socks4Handshake::Socks4Handshake(std::string_view user, const Destination& destination) {
  outgoing_.put(4);
  outgoing_.put(1);  // CONNECT
  outgoing_.put16(destination.address.port.value);
  if (destination.name.empty()) {
    outgoing_.put(destination.address.address);
  } else {
    outgoing_.put(std::string_view("\0\0\0\1", 4));
  }
  outgoing_.put(user);
  outgoing_.put(0);
  if (destination.name.empty()) return;
  outgoing_.put(destination.name);
  outgoing_.put(0);
}

std::size_t Socks4Handshake::take(std::span<const std::byte> bytes) {
  if (state_ != HandshakeState::running) return 0;
  const std::size_t count = std::min(answer_.size() - taken_, bytes.size());
  for (std::size_t i = 0; i < count; ++i) answer_.at(taken_ + i) = std::to_integer<std::uint8_t>(bytes[i]);
  taken_ += count;
  if (taken_ < answer_.size()) return count;
  constexpr std::uint8_t kGranted = 90;
  constexpr std::uint8_t kRejected = 91;
  constexpr std::uint8_t kOtherUser = 93;
  if (answer_[0] != 0 || answer_[1] < kGranted || answer_[1] > kOtherUser) {
    state_ = HandshakeState::malformed;
  } else if (answer_[1] == kGranted) {
    state_ = HandshakeState::done;
  } else {
    // 92, 93: identd says otherwise.
    state_ = answer_[1] == kRejected ? HandshakeState::rejected : HandshakeState::unauthorized;
  }
  return count;
}

}  // namespace limpid
