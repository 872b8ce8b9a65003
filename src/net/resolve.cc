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
  const std::string name(without_brackets(text.substr(0, colon)));
  const bool scoped = text.starts_with('[') && name.find('%') != std::string::npos;  // "[fe80::1%eth0]:80"
  if (colon == std::string_view::npos || name.empty() ||
      (!scoped && name.find_first_of("[]:/ ") != std::string::npos)) {
    return literal;
  }
  // Take the port's error from the literal's parser by giving it an address in place of the name.
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

std::string_view without_brackets(std::string_view host) noexcept {
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  // A name has no colon: whoever puts brackets around one means something else.
  if (!bracketed || host.find(':') == std::string_view::npos) return host;
  return host.substr(1, host.size() - 2);
}

Result<std::vector<SocketAddress>> resolve_host(std::string_view host, std::optional<Family> family, bool numeric) {
  const std::string name(without_brackets(host));
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

std::optional<SocketAddress> literal_address(std::string_view host) {
  const auto addresses = resolve_host(host, std::nullopt, /*numeric=*/true);
  if (!addresses) return std::nullopt;
  return addresses->front();
}

}  // namespace limpid
