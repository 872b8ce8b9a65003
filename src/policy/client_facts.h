// What can be learnt about a flow's client beside its addresses, and costs something to learn: how its packets came here, and, where it is a program of this host, which one.
// Values only; relay/client_fact_reader.h asks the kernel, and only for what a decision depends on.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace limpid {

/// Facts that are not known when a flow begins, in groups that are learnt together.
enum class Fact : std::uint8_t {
  first_bytes = 1,  ///< the client has to say something
  arrival = 2,      ///< interface and DSCP: one question to the socket
  hardware = 4,     ///< MAC address: one more, or one to the neighbour table
  user = 8,         ///< of the client's socket: one question to sock_diag
  cgroup = 16,      ///< of the client's socket: that, and one to cgroup v2
  process = 32,     ///< who has that socket open: a search in /proc
};

/// A set of them.
struct FactSet {
  std::uint8_t bits = 0;
  constexpr void add(Fact fact) noexcept { bits |= static_cast<std::uint8_t>(fact); }
  constexpr void add(FactSet others) noexcept { bits |= others.bits; }
  constexpr void remove(Fact fact) noexcept { bits &= static_cast<std::uint8_t>(~static_cast<unsigned>(fact)); }
  [[nodiscard]] constexpr bool has(Fact fact) const noexcept { return (bits & static_cast<std::uint8_t>(fact)) != 0; }
  [[nodiscard]] constexpr bool empty() const noexcept { return bits == 0; }
  bool operator==(const FactSet&) const = default;
};

using MacAddress = std::array<std::uint8_t, 6>;

/// A process of this host that has the client's socket open.
struct ClientProcess {
  std::uint32_t group = 0;  ///< effective
  std::string executable;   ///< as /proc/PID/exe has it, from its own root on; empty: not told
  bool operator==(const ClientProcess&) const = default;
};

struct ClientFacts {
  FactSet known;          ///< what has been asked for; the others mean nothing
  std::string interface;  ///< arrival: where its packets come in, "lo" for programs of this host; empty: not told
  std::uint8_t dscp = 0;  ///< arrival: 0…63
  std::optional<MacAddress>
      mac;  ///< hardware: of who sent them over the last link; empty: it has none, or it is not known
  std::optional<std::uint32_t>
      user;            ///< user: empty where the client is no program of this host, or could not be found
  std::string cgroup;  ///< cgroup: path below the mount of cgroup v2, "/" for the root; empty: likewise
  std::optional<ClientProcess> process;  ///< process: likewise
};

}  // namespace limpid
