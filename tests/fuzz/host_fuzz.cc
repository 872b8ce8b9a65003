// host_in: whatever a browser or anybody else writes as Host, what is found in it is plain, in lower case, and found again in itself.
#include <algorithm>
#include <cstdint>
#include <string>

#include "dashboard/admission.h"
#include "tests/fuzz/property.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto host = limpid::host_in(limpid::fuzz::as_text(data, size));
  if (!host) return 0;
  limpid::fuzz::check(!host->empty() && !host->ends_with('.'), "a host has a name");
  limpid::fuzz::check(std::ranges::all_of(*host,
                                          [](char c) {
                                            return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                                                   c == '.' || c == '_' || c == ':';
                                          }),
                      "it is plain, and in lower case");
  const bool is_ipv6 = host->find(':') != std::string::npos;
  limpid::fuzz::check(limpid::host_in(is_ipv6 ? "[" + *host + "]:80" : *host + ":80") == host, "it is its own host");
  return 0;
}
