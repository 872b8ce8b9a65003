// getaddrinfo(3), for names only: what is an address already never asks the resolver.
#include "net/resolve.h"

#include <netdb.h>
#include <sys/socket.h>

#include <cstring>
#include <memory>
#include <string>

namespace limpid {

Result<SocketAddress> resolve_target(std::string_view text) {
  const auto literal = SocketAddress::parse(text);
  if (literal) return literal;
  const auto colon = text.rfind(':');
  const std::string name(text.substr(0, colon));
  // Take the port's error from the literal's parser by giving it an address in place of the name.
  if (colon == std::string_view::npos || name.empty() || name.find_first_of("[]:/ ") != std::string::npos) {
    return literal;
  }
  auto result = SocketAddress::parse("0.0.0.0" + std::string(text.substr(colon)));
  if (!result) return usage_error("parse target", text, result.error().cause, result.error().remedy);

  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int code = getaddrinfo(name.c_str(), nullptr, &hints, &found); code != 0) {
    return failure("resolve", name, gai_strerror(code), "write an address instead, like 192.0.2.1:80");
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  sockaddr_storage native{};
  std::memcpy(&native, found->ai_addr, found->ai_addrlen);
  const auto address = SocketAddress::from_native(native);
  if (!address) return address;
  result->address = address->address;
  result->scope_id = address->scope_id;
  return result;
}

Result<std::vector<SocketAddress>> resolve_host(std::string_view host, std::optional<Family> family, bool numeric) {
  const std::string name(host);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  if (family) hints.ai_family = *family == Family::ipv4 ? AF_INET : AF_INET6;
  if (numeric) hints.ai_flags = AI_NUMERICHOST;
  addrinfo* found = nullptr;
  if (const int code = getaddrinfo(name.c_str(), nullptr, &hints, &found); code != 0) {
    if (numeric) return usage_error("parse address", name, "not an address", "write 192.0.2.1 or 2001:db8::1");
    return failure("resolve", name, gai_strerror(code), "write an address instead, like 192.0.2.1");
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* item = found; item != nullptr; item = item->ai_next) {
    sockaddr_storage native{};
    std::memcpy(&native, item->ai_addr, item->ai_addrlen);
    const auto address = SocketAddress::from_native(native);
    if (!address) return std::unexpected(address.error());
    addresses.push_back(*address);
  }
  return addresses;
}

}  // namespace limpid
