// The phases of RFC 1928, each a number of bytes that is known before they come.
#include "upstream/socks5.h"

#include <algorithm>
#include <utility>

#include "base/big_endian.h"

namespace limpid {
namespace {

constexpr std::uint8_t kVersion = 5;
constexpr std::uint8_t kNoAuthentication = 0;
constexpr std::uint8_t kUserAndPassword = 2;
constexpr std::uint8_t kIpv4 = 1;
constexpr std::uint8_t kName = 3;
constexpr std::uint8_t kIpv6 = 4;

/// RFC 1928, section 6.
HandshakeState state_of_reply(std::uint8_t reply) noexcept {
  switch (reply) {
    case 0: return HandshakeState::done;
    case 2: return HandshakeState::denied;
    case 3:  // network unreachable
    case 4:  // host unreachable
    case 6:  // TTL expired
      return HandshakeState::unreachable;
    case 5: return HandshakeState::refused;
    default: return HandshakeState::rejected;  // 1: general failure, 7, 8: not supported
  }
}

}  // namespace

Socks5Handshake::Socks5Handshake(Credentials credentials, Destination destination, Socks5Command command)
    : credentials_(std::move(credentials)), destination_(std::move(destination)), command_(command) {
  outgoing_.put(kVersion);
  if (credentials_.user.empty()) {
    outgoing_.put(1);
    outgoing_.put(kNoAuthentication);
  } else {
    outgoing_.put(2);
    outgoing_.put(kNoAuthentication);
    outgoing_.put(kUserAndPassword);
  }
}

std::size_t Socks5Handshake::take(std::span<const std::byte> bytes) {
  std::size_t used = 0;
  while (state_ == HandshakeState::running && used < bytes.size()) {
    const std::size_t count = std::min(wanted_ - taken_, bytes.size() - used);
    for (std::size_t i = 0; i < count; ++i) answer_.at(taken_ + i) = std::to_integer<std::uint8_t>(bytes[used + i]);
    taken_ += count;
    used += count;
    if (taken_ == wanted_) finish_phase();
  }
  return used;
}

void Socks5Handshake::finish_phase() {
  switch (phase_) {
    case Phase::method: return read_method();
    case Phase::authorization:
      // Of the version some servers write 5: RFC 1929 has 1, and only the status tells.
      if (answer_[1] != 0) {
        state_ = HandshakeState::unauthorized;
        return;
      }
      return request();
    case Phase::reply: return read_reply();
    case Phase::address: return read_address();
  }
}

void Socks5Handshake::read_method() {
  constexpr std::uint8_t kNoneAcceptable = 0xff;
  if (answer_[0] != kVersion) {
    state_ = HandshakeState::malformed;
  } else if (answer_[1] == kNoAuthentication) {
    request();
  } else if (answer_[1] == kUserAndPassword && !credentials_.user.empty()) {
    outgoing_.put(1);
    outgoing_.put(static_cast<std::uint8_t>(credentials_.user.size()));
    outgoing_.put(credentials_.user);
    outgoing_.put(static_cast<std::uint8_t>(credentials_.password.size()));
    outgoing_.put(credentials_.password);
    phase_ = Phase::authorization;
    taken_ = 0;
  } else {
    state_ = answer_[1] == kNoneAcceptable ? HandshakeState::unauthorized : HandshakeState::malformed;
  }
}

void Socks5Handshake::request() {
  outgoing_.put(kVersion);
  outgoing_.put(static_cast<std::uint8_t>(command_));
  outgoing_.put(0);
  if (!destination_.name.empty()) {
    outgoing_.put(kName);
    outgoing_.put(static_cast<std::uint8_t>(destination_.name.size()));
    outgoing_.put(destination_.name);
  } else {
    outgoing_.put(destination_.address.family() == Family::ipv4 ? kIpv4 : kIpv6);
    outgoing_.put(destination_.address.address);
  }
  outgoing_.put16(destination_.address.port.value);
  phase_ = Phase::reply;
  taken_ = 0;
  wanted_ = 5;  // with the first byte of the address, which for a name is its length
}

void Socks5Handshake::read_reply() {
  if (answer_[0] != kVersion) {
    state_ = HandshakeState::malformed;
    return;
  }
  if (const auto outcome = state_of_reply(answer_[1]); outcome != HandshakeState::done) {
    state_ = outcome;
    return;
  }
  switch (answer_[3]) {
    case kIpv4: wanted_ = 4 + 4 + 2; break;
    case kIpv6: wanted_ = 4 + 16 + 2; break;
    case kName: wanted_ = std::size_t{4} + 1 + answer_[4] + 2; break;
    default: state_ = HandshakeState::malformed; return;
  }
  phase_ = Phase::address;
}

void Socks5Handshake::read_address() {
  if (answer_[3] != kName) {
    std::array<std::uint8_t, 16> address{};
    const std::size_t length = wanted_ - 6;
    std::copy_n(answer_.begin() + 4, length, address.begin());
    bound_.address = IpAddress::from_bytes(answer_[3] == kIpv4 ? Family::ipv4 : Family::ipv6, address);
  }
  bound_.port.value = big_endian16(std::as_bytes(std::span(answer_)), wanted_ - 2);
  state_ = HandshakeState::done;
}

}  // namespace limpid
