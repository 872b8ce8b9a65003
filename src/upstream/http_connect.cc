// The request in one piece; of the answer only the status matters, and where its header ends.
#include "upstream/http_connect.h"

#include <string>
#include <string_view>

namespace limpid {
namespace {

std::string base64(std::string_view text) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string encoded;
  for (std::size_t i = 0; i < text.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      group = (group << 8U) | (i + j < text.size() ? static_cast<std::uint8_t>(text[i + j]) : 0U);
    }
    for (std::size_t j = 0; j < 4; ++j) {
      const bool filled = i + j <= text.size();
      encoded += filled ? kDigits[(group >> (18U - 6U * j)) & 0x3fU] : '=';
    }
  }
  return encoded;
}

std::string authority(const Destination& destination) {
  if (destination.name.empty()) {
    // Without a scope, which means nothing to another host.
    return SocketAddress{.address = destination.address.address, .port = destination.address.port}.to_string();
  }
  return destination.name + ":" + std::to_string(destination.address.port.value);
}

/// RFC 9110, section 15, and what proxies say with which (Squid, tinyproxy).
HandshakeState state_of_status(unsigned status) noexcept {
  constexpr unsigned kForbidden = 403;
  constexpr unsigned kProxyAuthentication = 407;
  constexpr unsigned kBadGateway = 502;
  constexpr unsigned kGatewayTimeout = 504;
  if (status >= 200 && status <= 299) return HandshakeState::done;
  if (status == kProxyAuthentication) return HandshakeState::unauthorized;
  if (status == kForbidden) return HandshakeState::denied;
  if (status >= kBadGateway && status <= kGatewayTimeout) return HandshakeState::unreachable;
  return HandshakeState::rejected;
}

constexpr std::string_view kVersion = "HTTP/1.";

}  // namespace

HttpConnectHandshake::HttpConnectHandshake(const Credentials& credentials, const Destination& destination) {
  const std::string to = authority(destination);
  outgoing_.put("CONNECT " + to + " HTTP/1.1\r\nHost: " + to + "\r\n");
  if (!credentials.user.empty()) {
    outgoing_.put("Proxy-Authorization: Basic " + base64(credentials.user + ":" + credentials.password) + "\r\n");
  }
  outgoing_.put("\r\n");
}

std::size_t HttpConnectHandshake::take(std::span<const std::byte> bytes) {
  std::size_t used = 0;
  while (state_ == HandshakeState::running && used < bytes.size()) {
    take_byte(static_cast<char>(bytes[used]));
    ++used;
    if (++taken_ == kMostHeaderBytes && state_ == HandshakeState::running) state_ = HandshakeState::malformed;
  }
  return used;
}

void HttpConnectHandshake::take_byte(char byte) {
  if (byte == '\n') {
    if (place_ != Place::rest_of_line) {
      state_ = HandshakeState::malformed;
    } else if (in_line_ == 0) {
      end_of_header();
    }
    in_line_ = 0;
    first_line_ = place_ == Place::version;
    after_cr_ = false;
    return;
  }
  if (after_cr_) {
    // A CR alone: two parsers could see two different ends of the header in it.
    state_ = HandshakeState::malformed;
    return;
  }
  if (byte == '\r') {
    after_cr_ = true;
    return;
  }
  const std::size_t at = in_line_++;
  constexpr std::size_t kStatusBegin = kVersion.size() + 2;  // the minor version's digit and a space
  if (place_ == Place::version) {
    const bool fits = at < kVersion.size()    ? byte == kVersion[at]
                      : at == kVersion.size() ? byte == '0' || byte == '1'
                                              : byte == ' ';
    if (!fits) state_ = HandshakeState::malformed;
    if (at + 1 == kStatusBegin) place_ = Place::status;
  } else if (place_ == Place::status) {
    if (byte < '0' || byte > '9') {
      state_ = HandshakeState::malformed;
      return;
    }
    status_ = status_ * 10 + static_cast<unsigned>(byte - '0');
    if (at + 1 == kStatusBegin + 3) place_ = Place::rest_of_line;
  } else if (first_line_ && at == kStatusBegin + 3 && byte != ' ') {
    state_ = HandshakeState::malformed;  // a fourth digit, or worse
  }
}

void HttpConnectHandshake::end_of_header() {
  constexpr unsigned kSwitching = 101;
  if (status_ >= 100 && status_ < 200 && status_ != kSwitching) {
    // Interim: the real answer follows (RFC 9110, 15.2).
    place_ = Place::version;
    status_ = 0;
    return;
  }
  state_ = state_of_status(status_);
}

}  // namespace limpid
