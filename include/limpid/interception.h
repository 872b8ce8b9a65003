// Scoped interception: makes the kernel deliver other people's connections and datagrams, or this host's own, to a
// listener of yours, and undoes itself. The listener must be transparent (limpid/transparent.h) and listening before install() is called.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/mark.h"
#include "limpid/port_set.h"
#include "limpid/prefix.h"

namespace limpid {

/// What happens to traffic in scope while nobody listens.
enum class FailMode : std::uint8_t {
  open,    ///< it is forwarded as if nothing were installed
  closed,  ///< it is rejected
};

/// What makes the kernel intercept.
enum class Backend : std::uint8_t {
  nftables,
  iptables_nft,     ///< the iptables programs that speak to nftables
  iptables_legacy,  ///< those that speak to the older interface
  ebpf,             ///< programs of our own at every interface, without netfilter
};

/// User or group numbers, both ends included.
struct IdRange {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
  auto operator<=>(const IdRange&) const = default;
};

/// Some of this host's programs: those that run as one of the users, or as one of the groups, or in one of the cgroups.
struct Programs {
  std::vector<IdRange> users;
  std::vector<IdRange> groups;
  std::vector<std::string> cgroups;  ///< paths below the root of cgroup v2: "user.slice/user-1000.slice"; must exist
  [[nodiscard]] bool empty() const { return users.empty() && groups.empty() && cgroups.empty(); }
};

/// Which of this host's own traffic is meant.
struct LocalScope {
  Programs only;   ///< empty: every program
  Programs never;  ///< wins over `only`
};

/// Which traffic is meant.
struct Scope {
  PortSet tcp;                               ///< destination ports of connections
  PortSet udp;                               ///< destination ports of datagrams
  bool forwarded = true;                     ///< what others send through this host
  std::vector<std::string> from_interfaces;  ///< of that: arriving there; with from_prefixes empty too: anywhere
  std::vector<Prefix> from_prefixes;         ///< or from these clients
  std::optional<LocalScope> local;           ///< what this host's own programs send; empty: nothing of it
  std::vector<Prefix> to_prefixes;           ///< to these destinations; empty: to anybody
  std::vector<Prefix> excluded;              ///< never these destinations
  bool ipv4 = true;
  bool ipv6 = true;
};

struct InterceptionOptions {
  std::string name = "limpid";  ///< tags everything that is installed; [a-z][a-z0-9_]{0,15}
  Scope scope;
  Port listener;  ///< on 127.0.0.1 and [::1]
  FailMode fail = FailMode::open;
  bool keeps_source_port = false;  ///< the proxy uses the client's port too: our legs are then kept out of conntrack
  /// The same for datagrams, by a proxy whose target legs are transparent sockets and which answers clients through
  /// others, such as raw ones: then only the clients' side is kept out of conntrack, and NAT works on the other one.
  bool keeps_udp_port = false;
  /// The proxy asks conntrack for the original destination (SO_ORIGINAL_DST) instead of its own socket: conntrack, which works only
  /// where a rule asks for it, is then put to work. Not together with `keeps_source_port`.
  bool needs_conntrack = false;
  /// Connections to the listener's port that were dialled to this host itself are rejected: for a listener on every address whose proxy
  /// would dial the address that was dialled, and so itself, for ever.
  bool guards_listener = false;
  /// The first of these that works here is taken. With iptables, fail-open is true a second after the owner of the Interception died,
  /// because until then its TPROXY drops (docs/backends.md).
  std::vector<Backend> backends = {Backend::nftables, Backend::iptables_nft, Backend::iptables_legacy, Backend::ebpf};
  std::optional<Mark> mark;  ///< chosen free of collisions when empty
  std::optional<TableId> table;
  std::optional<RulePriority> priority;
};

/// Owns what install() put into the kernel. Destruction removes exactly that and ignores errors; remove() reports them.
class Interception {
 public:
  [[nodiscard]] static Result<Interception> install(const InterceptionOptions& options);
  Interception(Interception&&) noexcept;
  Interception& operator=(Interception&&) noexcept;
  Interception(const Interception&) = delete;
  Interception& operator=(const Interception&) = delete;
  ~Interception();

  /// The mark to put on sockets that must never be intercepted (ConnectOptions::mark).
  [[nodiscard]] std::uint32_t bypass_mark() const noexcept;
  [[nodiscard]] Status remove();

 private:
  struct State;
  explicit Interception(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace limpid
