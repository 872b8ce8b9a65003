// The throw-away nft table of a probe: it counts the probe's packets at every station of their way through this host, and
// keeps them from leaving it. Pure text; see live_probe.cc for who loads it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "doctor/facts.h"
#include "intercept/ruleset.h"
#include "net/endpoint.h"

namespace limpid::doctor {

/// Not a name that an instance of ours can have. A probe that was killed leaves it; the next one takes it away.
inline constexpr std::string_view kProbeTable = "limpid__doctor";
inline constexpr std::string_view kClientLink = "limpid_pc";  ///< this host's end towards the probe's client
inline constexpr std::string_view kTargetLink = "limpid_ps";  ///< and towards its target

/// One packet stream: from the client's address to a target that is a namespace of the probe's.
struct ProbeStream {
  Transport transport = Transport::tcp;
  Family family = Family::ipv4;
  IpAddress client;
  IpAddress target;
  Port port;
  [[nodiscard]] std::string name() const;  ///< "TCP over IPv4"
  [[nodiscard]] std::string tag() const;   ///< "t4"
};

/// Where counters stand in each hook: before every chain of others, and behind the last.
struct ProbeStations {
  std::vector<int> prerouting;
  std::vector<int> input;
  std::vector<int> output;
  std::vector<int> postrouting;
};

[[nodiscard]] ProbeStations find_stations(const Facts& facts);
[[nodiscard]] std::string render_probe_table(const std::vector<ProbeStream>& streams, const ProbeStations& stations,
                                             const MarkField& mark);

/// What the counters of one stream say. The vectors have one number for each station.
struct ProbeTrace {
  std::vector<std::uint64_t> prerouting;
  std::vector<std::uint64_t> input;
  std::vector<std::uint64_t> output;       ///< answers to the client
  std::vector<std::uint64_t> postrouting;  ///< the same
  std::uint64_t marked = 0;                ///< left prerouting with the intercept mark
  std::uint64_t forwarded = 0;             ///< was going to be forwarded
  std::uint64_t dialled = 0;               ///< the proxy's own packets to the target
  std::uint64_t astray = 0;                ///< those of them that were routed elsewhere
  std::uint64_t replied = 0;               ///< came back from the target
  std::uint64_t reply_delivered = 0;       ///< and were delivered here
  std::uint64_t solicited = 0;             ///< IPv6: the client's neighbour solicitations that came to the input chains
  std::uint64_t solicited_delivered = 0;   ///< and passed them
};

[[nodiscard]] ProbeTrace read_trace(const Ruleset& listing, const ProbeStream& stream, const ProbeStations& stations);

}  // namespace limpid::doctor
