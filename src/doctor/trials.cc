// See trials.h. The client dials an address that nobody has; its default route leads to the router, whose rules under
// trial must bring the packet to a transparent socket. What arrives with its destination unchanged was delivered.
#include "doctor/trials.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <tuple>

#include "base/process.h"
#include "intercept/nft.h"
#include "intercept/xtables.h"
#include "lab/lab.h"
#include "limpid/datagram.h"
#include "limpid/transparent.h"
#include "net/namespace.h"
#include "net/netlink.h"

namespace limpid::doctor {
namespace {

constexpr int kPatienceMilliseconds = 1500;
constexpr Port kProxyPort{1080};
constexpr Port kDialledPort{8080};
constexpr std::uint32_t kMark = 1;
constexpr TableId kTable{100};
constexpr std::array kFamilies = {Family::ipv4, Family::ipv6};
constexpr std::array kTransports = {Transport::tcp, Transport::udp};

SocketAddress dialled(Family family) {
  // RFC 5737, RFC 3849: documentation. The lab's router has no route to them, its own or another.
  return {.address = IpAddress::parse(family == Family::ipv4 ? "203.0.113.9" : "2001:db8:9::9").value_or(IpAddress()),
          .port = kDialledPort};
}

std::string nft_rules(Match match) {
  std::string text = "table inet trial {\n  chain pre {\n    type filter hook prerouting priority mangle;\n";
  if (match == Match::socket) {
    text += fmt::format("    meta l4proto {{ tcp, udp }} socket transparent 1 meta mark set {}\n", kMark);
  } else {
    for (const std::string_view protocol : {"tcp", "udp"}) {
      text += fmt::format("    ip version 4 {0} dport {1} tproxy ip to 127.0.0.1:{2} meta mark set {3}\n", protocol,
                          kDialledPort.value, kProxyPort.value, kMark);
      text += fmt::format("    ip6 version 6 {0} dport {1} tproxy ip6 to [::1]:{2} meta mark set {3}\n", protocol,
                          kDialledPort.value, kProxyPort.value, kMark);
    }
  }
  return text + "  }\n}\n";
}

std::string iptables_rules(Match match, Family family) {
  std::string text = "*mangle\n";
  for (const std::string_view protocol : {"tcp", "udp"}) {
    if (match == Match::socket) {
      text += fmt::format("-A PREROUTING -p {} -m socket --transparent -j MARK --set-mark {}\n", protocol, kMark);
    } else {
      text +=
          fmt::format("-A PREROUTING -p {} --dport {} -j TPROXY --on-ip {} --on-port {} --tproxy-mark {}\n", protocol,
                      kDialledPort.value, family == Family::ipv4 ? "127.0.0.1" : "::1", kProxyPort.value, kMark);
    }
  }
  return text + "COMMIT\n";
}

struct Installed {
  bool program_missing = false;
  std::string problem;  ///< empty: the rules are there
};

Installed run_restore(Mechanism mechanism, Family family, std::string_view rules) {
  const std::string name = fmt::format("{}-{}-restore", family == Family::ipv4 ? "iptables" : "ip6tables",
                                       mechanism == Mechanism::iptables_nft ? "nft" : "legacy");
  const auto program = find_system_program(name, "iptables");
  if (!program) return {.program_missing = true, .problem = fmt::format("{} is not installed", name)};
  const auto output =
      run_process(std::vector<std::string>{*program}, rules, std::chrono::seconds(10), xtables_environment());
  if (!output) return {.problem = output.error().message()};
  if (output->exit_status == 0) return {};
  return {.problem = fmt::format("{}: {}", name, output->standard_error.substr(0, output->standard_error.find('\n')))};
}

Installed install_rules(Mechanism mechanism, Match match, Family family) {
  if (mechanism != Mechanism::nft) return run_restore(mechanism, family, iptables_rules(match, family));
  if (auto fed = feed_nft(NftMode::apply, "table inet trial\ndelete table inet trial\n" + nft_rules(match), "a trial");
      !fed) {
    return {.problem = fed.error().message()};
  }
  return {};
}

void remove_rules(Mechanism mechanism, Family family) {
  // Without --noflush, a table that is restored empty is emptied.
  if (mechanism == Mechanism::nft) {
    std::ignore = feed_nft(NftMode::apply, "delete table inet trial\n", "a trial");
  } else {
    std::ignore = run_restore(mechanism, family, "*mangle\nCOMMIT\n");
  }
}

bool wait_for(int fd, short events) {
  pollfd waiting{.fd = fd, .events = events, .revents = 0};
  return ::poll(&waiting, 1, kPatienceMilliseconds) > 0;
}

/// The transparent socket that is to get the packet.
Result<UniqueFd> open_receiver(Match match, Family family, Transport transport) {
  const SocketAddress local = match == Match::tproxy
                                  ? SocketAddress{.address = IpAddress::loopback(family), .port = kProxyPort}
                                  : dialled(family);
  return transport == Transport::tcp ? listen_transparent(local) : listen_datagrams(local);
}

/// What was dialled, as the receiver learns it; an error says what is missing.
Result<SocketAddress> receive(const UniqueFd& receiver, Transport transport) {
  if (!wait_for(receiver.get(), POLLIN)) return failure("deliver", "", "the packet did not arrive");
  if (transport == Transport::tcp) {
    const UniqueFd accepted(::accept4(receiver.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    return original_destination(accepted.get());
  }
  DatagramBatch batch;
  const auto received = batch.receive(receiver.get());
  if (received.empty() || !received.front().original_destination) {
    return failure("deliver", "", "the datagram's destination was not told");
  }
  return *received.front().original_destination;
}

class Bench {
 public:
  explicit Bench(const Lab& lab) noexcept : client_(*lab.find("client")), router_(*lab.find("router")) {}

  [[nodiscard]] Status enter_router() const { return enter_network_namespace(router_.network_namespace.get()); }

  [[nodiscard]] Status route_marked(Family family) const {
    auto socket = RouteSocket::open();
    if (!socket) return std::unexpected(socket.error());
    RuleSpec rule;
    rule.family = family;
    rule.priority = {100};
    rule.mark = Mark{.value = kMark, .mask = kMark};
    rule.table = kTable;
    if (auto added = socket->add_rule(rule); !added) return added;
    RouteSpec route;
    route.destination = Prefix::everything(family);
    route.table = kTable;
    route.local = true;
    route.device = "lo";
    return socket->add_route(route);
  }

  /// One packet through the rules that are there.
  [[nodiscard]] Status deliver(Match match, Family family, Transport transport) const {
    auto receiver = open_receiver(match, family, transport);
    if (!receiver) return std::unexpected(receiver.error());
    if (auto entered = enter_network_namespace(client_.network_namespace.get()); !entered) return entered;
    auto caller = open_caller(transport, std::nullopt, dialled(family), Transparency::when_foreign);
    if (caller && transport == Transport::udp && ::send(caller->get(), "trial", 5, MSG_NOSIGNAL) != 5) {
      caller = system_error(errno, "send", "a datagram");
    }
    if (auto back = enter_router(); !back) return back;
    if (!caller) return std::unexpected(caller.error());
    const auto destination = receive(*receiver, transport);
    if (!destination) return std::unexpected(destination.error());
    if (*destination == dialled(family)) return {};
    return failure("deliver", "", fmt::format("its destination became {}", destination->to_string()));
  }

 private:
  const LabHost& client_;
  const LabHost& router_;
};

}  // namespace

Result<Trials> make_trials() {
  const auto lab = Lab::create({});
  if (!lab) return std::unexpected(lab.error());
  const Bench bench(*lab);
  if (auto entered = bench.enter_router(); !entered) return std::unexpected(entered.error());
  Trials trials;
  trials.missing_nft_feature = find_missing_nft_feature(/*local=*/false).value_or("");
  for (const Family family : kFamilies) {
    if (auto routed = bench.route_marked(family); !routed) trials.policy_routing_problem = routed.error().message();
  }
  for (const Mechanism mechanism : {Mechanism::nft, Mechanism::iptables_nft, Mechanism::iptables_legacy}) {
    for (const Match match : {Match::tproxy, Match::socket}) {
      for (const Family family : kFamilies) {
        const Installed installed = install_rules(mechanism, match, family);
        for (const Transport transport : kTransports) {
          Trial trial{.mechanism = mechanism,
                      .match = match,
                      .family = family,
                      .transport = transport,
                      .program_missing = installed.program_missing,
                      .problem = installed.problem};
          if (trial.problem.empty()) {
            const auto delivered = bench.deliver(match, family, transport);
            trial.delivered = delivered.has_value();
            if (!delivered) trial.problem = delivered.error().message();
          }
          trials.trials.push_back(std::move(trial));
        }
        if (installed.problem.empty()) remove_rules(mechanism, family);
      }
    }
  }
  return trials;
}

std::string to_text(const Trials& trials) {
  nlohmann::json document = {{"routing", trials.policy_routing_problem},
                             {"nft", trials.missing_nft_feature},
                             {"trials", nlohmann::json::array()}};
  for (const Trial& trial : trials.trials) {
    document["trials"].push_back({static_cast<int>(trial.mechanism), static_cast<int>(trial.match),
                                  static_cast<int>(trial.family), static_cast<int>(trial.transport), trial.delivered,
                                  trial.program_missing, trial.problem});
  }
  return document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Trials trials_of(std::string_view text) {
  const auto document = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  Trials trials;
  if (!document.is_object()) return trials;  // our own child wrote it; an empty one says that nothing was tried
  trials.policy_routing_problem = document["routing"].get<std::string>();
  trials.missing_nft_feature = document["nft"].get<std::string>();
  for (const auto& entry : document["trials"]) {
    trials.trials.push_back({.mechanism = static_cast<Mechanism>(entry[0].get<int>()),
                             .match = static_cast<Match>(entry[1].get<int>()),
                             .family = static_cast<Family>(entry[2].get<int>()),
                             .transport = static_cast<Transport>(entry[3].get<int>()),
                             .delivered = entry[4].get<bool>(),
                             .program_missing = entry[5].get<bool>(),
                             .problem = entry[6].get<std::string>()});
  }
  return trials;
}

}  // namespace limpid::doctor
