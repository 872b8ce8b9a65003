// SocketAddress::parse: an accepted address survives printing and the way through the kernel's structure.
#include <sys/socket.h>

#include <cstdint>

#include "limpid/address.h"
#include "tests/fuzz/property.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto address = limpid::SocketAddress::parse(limpid::fuzz::as_text(data, size));
  if (!address) {
    limpid::fuzz::check_user_error(address.error());
    return 0;
  }
  limpid::fuzz::check(address->port.value != 0, "port 0 is no address");
  limpid::fuzz::check(limpid::SocketAddress::parse(address->to_string()) == *address,
                      "what is printed parses to the same");
  sockaddr_storage native{};
  const auto length = address->to_native(native);
  limpid::fuzz::check(length <= sizeof native, "the length fits");
  auto unmapped = *address;
  unmapped.address = unmapped.address.unmapped();
  limpid::fuzz::check(limpid::SocketAddress::from_native(native) == unmapped, "the kernel's structure holds the same");
  return 0;
}
