// What rules look at: the facts about one new flow, as far as they are known yet.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "limpid/address.h"
#include "net/endpoint.h"
#include "policy/client_facts.h"

namespace limpid {

/// What a flow's first bytes turned out to be.
enum class AppProtocol : std::uint8_t { unknown, tls, http, quic, ssh, dns };
/// "unknown", "tls", "http", "quic", "ssh", "dns".
[[nodiscard]] std::string_view to_string(AppProtocol protocol) noexcept;

/// Learnt from the first bytes.
struct FirstBytes {
  AppProtocol protocol = AppProtocol::unknown;
  std::string_view name;  ///< lower case, without the last dot; empty: they name nobody
  bool ech = false;       ///< the hello has the encrypted_client_hello extension, so `name` may be a cover
};

/// A moment in the week, local time.
struct WeekMinute {
  std::uint16_t value = 0;  ///< 0…10079; 0 is Monday, 00:00
};

struct FlowFacts {
  Transport transport = Transport::tcp;
  SocketAddress client;
  SocketAddress destination;
  WeekMinute time;
  std::optional<FirstBytes> first_bytes;      ///< empty: nobody has looked yet
  const ClientFacts* client_facts = nullptr;  ///< nullptr: nobody has asked for any
};

}  // namespace limpid
