// rtnetlink through libmnl: the one place that reads and changes policy rules, routes, links and addresses.
// Every call is synchronous. Errors carry the kernel's extended acknowledgement where it gives one.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/mark.h"
#include "limpid/prefix.h"
#include "net/netlink_socket.h"

namespace limpid {

enum class RuleAction : std::uint8_t { lookup, jump, nop, other };

/// A policy routing rule as `ip rule` shows it: the fields that Limpid sets or must know of others.
struct RuleSpec {
  Family family = Family::ipv4;
  RulePriority priority;
  std::optional<Mark> mark;     ///< fwmark VALUE/MASK
  std::string input_interface;  ///< iif; empty: any
  RuleAction action = RuleAction::lookup;
  TableId table;              ///< for lookup
  RulePriority jump_target;   ///< for jump ("goto")
  std::uint8_t protocol = 0;  ///< who made it (rt_protos); 0: unspecified
  bool inverted = false;      ///< "not"
  bool operator==(const RuleSpec&) const = default;
};

/// A route as far as Limpid needs it. `local` routes deliver to this host.
struct RouteSpec {
  Prefix destination = Prefix::everything(Family::ipv4);
  TableId table;
  bool local = false;
  std::string device;  ///< empty: none
  std::optional<IpAddress> gateway;
  std::uint8_t protocol = 0;
  bool operator==(const RouteSpec&) const = default;
};

struct LinkInfo {
  int index = 0;
  std::string name;
  bool up = false;
  std::uint32_t mtu = 0;
  /// IF_OPER_UP: the kernel has taken notice of its carrier and sends what it is given. Loopback has no such state.
  bool operational = false;
  std::string kind = {};  ///< "bridge", "veth", …; empty: none
  int master = 0;         ///< index of the bridge or bond that it is a port of; 0: none
  bool ethernet = false;  ///< its frames have Ethernet headers
};

struct AddressInfo {
  int link_index = 0;
  IpAddress address;
  unsigned prefix_length = 0;
};

/// How the kernel would route a packet.
struct RouteQuestion {
  IpAddress destination;
  std::optional<IpAddress> source;  ///< "from"
  std::string input_interface;      ///< "iif": it arrives there and is forwarded; empty: this host sends it
  std::uint32_t mark = 0;
  std::optional<std::uint32_t> user;  ///< whose socket sends it
};

enum class RouteKind : std::uint8_t {
  unicast,
  local,    ///< delivered to this host
  many,     ///< broadcast, anycast, multicast
  refused,  ///< no route, an unreachable one, or a packet that may not come that way: `error` says which
};

struct RouteAnswer {
  RouteKind kind = RouteKind::refused;
  std::string device;
  std::optional<IpAddress> gateway;
  TableId table;
  int error = 0;  ///< ENETUNREACH, EHOSTUNREACH, EACCES, EINVAL, EXDEV, …; with `refused`
};

/// An open rtnetlink socket in the network namespace in which it was opened. One thread at a time.
class RouteSocket {
 public:
  [[nodiscard]] static Result<RouteSocket> open();

  [[nodiscard]] Result<std::vector<RuleSpec>> rules(Family family);
  [[nodiscard]] Status add_rule(const RuleSpec& rule);     ///< EEXIST is an error
  [[nodiscard]] Status delete_rule(const RuleSpec& rule);  ///< ENOENT is an error

  /// Every table's routes of one family.
  [[nodiscard]] Result<std::vector<RouteSpec>> routes(Family family);
  [[nodiscard]] Status add_route(const RouteSpec& route);
  [[nodiscard]] Status delete_route(const RouteSpec& route);

  /// What `ip route get` says. A refusal is an answer; the error is for a question that could not be asked.
  [[nodiscard]] Result<RouteAnswer> look_up(const RouteQuestion& question);
  /// Whether packets to `destination` are delivered to this host: what look_up() says, in one question to the kernel.
  [[nodiscard]] Result<bool> is_local(const IpAddress& destination);

  [[nodiscard]] Result<std::vector<LinkInfo>> links();
  [[nodiscard]] Result<std::vector<AddressInfo>> addresses();
  [[nodiscard]] Status set_link_up(const std::string& name);
  /// A veth pair whose peer is created in the network namespace behind `peer_namespace` (a borrowed fd).
  [[nodiscard]] Status add_veth(const std::string& name, const std::string& peer_name, int peer_namespace);
  /// IPv6 addresses are added without duplicate address detection (IFA_F_NODAD): they are usable at once.
  [[nodiscard]] Status add_address(const std::string& link, const IpAddress& address, unsigned prefix_length);

 private:
  explicit RouteSocket(NetlinkSocket socket) noexcept;

  /// if_nametoindex(3) would look in the thread's namespace, which need not be the socket's.
  [[nodiscard]] Result<std::uint32_t> link_index(const std::string& name);

  NetlinkSocket socket_;
};

/// The addresses of this host's interfaces, asked for with a socket of its own.
[[nodiscard]] Result<std::vector<IpAddress>> own_addresses();

/// The smallest MTU of this host's interfaces, if they have different ones; 0 if all are alike. Loopback, interfaces that are down, and ports of a bridge or
/// bond do not count, nor does less than IPv6 needs (1280).
[[nodiscard]] Result<std::uint32_t> smallest_different_mtu();

}  // namespace limpid
