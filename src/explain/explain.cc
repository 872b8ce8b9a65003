// Theory of operation: lock → installations, links → socket for traces → table that marks and ends the probe → probe → messages until the
// probe has come to an end, or nothing more comes → text of the rules that it met → table away, entries of the probe's in our own sets away
// → words. The table goes away on every path (TableGuard); after a kill -9 the next run replaces it, and until then its rules match nothing
// but the cookie of a probe that is gone.
#include "explain/explain.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <random>
#include <tuple>

#include "base/file_text.h"
#include "intercept/install.h"
#include "intercept/nft.h"
#include "net/conntrack.h"
#include "net/drop_reasons.h"
#include "net/packet.h"
#include "net/port_owner.h"
#include "net/probe.h"

namespace limpid {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// A packet that goes on is heard of within microseconds; one that vanished is given up after this.
constexpr milliseconds kPatience{400};
/// However much is heard of it.
constexpr milliseconds kLongestWait{3000};
/// Ports that no kernel chooses by itself (net.ipv4.ip_local_port_range begins at 32768).
constexpr std::uint32_t kFirstPort = 20000;
constexpr std::uint32_t kPorts = 10000;
constexpr std::uint16_t kEtherTypeIpv4 = 0x0800;
constexpr std::uint16_t kEtherTypeIpv6 = 0x86dd;

class TableGuard {
 public:
  TableGuard() = default;
  TableGuard(const TableGuard&) = delete;
  TableGuard& operator=(const TableGuard&) = delete;
  TableGuard(TableGuard&&) = delete;
  TableGuard& operator=(TableGuard&&) = delete;
  ~TableGuard() { std::ignore = remove(); }
  void installed() { installed_ = true; }
  Status remove() {
    if (!installed_) return {};
    installed_ = false;
    return feed_nft(NftMode::apply, render_table_removal(kExplainTable),
                    fmt::format("nft table inet {}", kExplainTable));
  }

 private:
  bool installed_ = false;
};

std::array<std::byte, 16> payload_of(std::uint32_t cookie) {
  std::array<std::byte, 16> payload{};
  for (std::size_t i = 0; i < payload.size(); ++i) {
    payload[i] = static_cast<std::byte>(cookie >> (8U * (3U - i % 4)));
  }
  return payload;
}

/// The elements that the probe leaves in sets of ours (local_traffic.cc): "flows_ipv4", "served_ipv4".
class SetEntries {
 public:
  SetEntries(const ProbeMarks& probe, const SocketAddress& source, const std::map<std::string, Ownership>& instances) {
    const std::string_view family = probe.destination.family() == Family::ipv4 ? "ipv4" : "ipv6";
    const bool tcp = probe.transport == Transport::tcp;
    for (const auto& [name, ownership] : instances) {
      if (!ownership.local || ownership.backend != Backend::nftables) continue;
      const std::string element = tcp ? fmt::format("{} . {} . {} . {}", source.address.to_string(), source.port.value,
                                                    probe.destination.address.to_string(), probe.destination.port.value)
                                      : fmt::format("{} . {} . {}", source.address.to_string(), source.port.value,
                                                    probe.destination.port.value);
      const std::string text = fmt::format("element inet {} {}_{} {{ {} }}\n", table_name_of(name),
                                           tcp ? "flows" : "served", family, element);
      // One that was there before is a flow's, and stays.
      if (feed_nft(NftMode::apply, "get " + text, "a set")) continue;
      entries_.push_back(text);
    }
  }
  void remove() const {
    for (const std::string& entry : entries_) {
      // It fails where there is nothing to take away.
      std::ignore = feed_nft(NftMode::apply, "delete " + entry, "a set");
    }
  }

 private:
  std::vector<std::string> entries_;
};

/// Where a packet of the source's would arrive.
Status choose_interface(RouteSocket& routing, Question& question) {
  if (question.local || !question.interface.empty()) return {};
  const IpAddress& source = question.source->address;
  const auto answer =
      routing.look_up({.destination = source, .source = {}, .input_interface = {}, .mark = 0, .user = {}});
  if (!answer) return std::unexpected(answer.error());
  const std::string text = source.to_string();
  if (answer->kind == RouteKind::local) {
    return usage_error("explain", text, "is an address of this host's own", "--local for what this host sends itself");
  }
  if (answer->kind != RouteKind::unicast || answer->device.empty()) {
    return usage_error("explain", text, "there is no route back to it, so nothing says where its packets arrive",
                       "--in INTERFACE");
  }
  question.interface = answer->device;
  return {};
}

/// Anybody may ask for routes: that much of the answer goes with the error.
std::unexpected<Error> without_privileges(Error error, RouteSocket& routing, const Question& question) {
  RouteQuestion asked{.destination = question.destination.address,
                      .source = {},
                      .input_interface = question.interface,
                      .mark = 0,
                      .user = question.user};
  if (!question.interface.empty() && question.source) asked.source = question.source->address;
  if (const auto answer = routing.look_up(asked)) {
    error.remedy +=
        fmt::format("; rules cannot be read without it; unmarked, the packet is routed: {}", describe(*answer));
  }
  return std::unexpected(std::move(error));
}

ProbeMarks marks_for(const Question& question) {
  std::random_device random;
  ProbeMarks probe{.transport = question.transport,
                   .source = {},
                   .source_port = {},
                   .destination = question.destination,
                   .cookie = random() | 1U};
  if (question.source && !question.source->address.is_unspecified()) probe.source = question.source->address;
  if (question.source) probe.source_port = question.source->port;
  if (!question.local && probe.source_port.value == 0) {
    probe.source_port.value = static_cast<std::uint16_t>(kFirstPort + random() % kPorts);
  }
  return probe;
}

/// Whether some program reads packets of a queue (a line for each, seq_show() in nfnetlink_queue.c).
bool a_program_reads_a_queue() {
  return !read_text("/proc/thread-self/net/netfilter/nfnetlink_queue").empty();
}

/// Listens until the probe's end has been heard of. What a program has been given comes back when the program says so: our table has to be
/// there then, or the probe goes on to whom it is addressed.
Result<std::vector<TraceEvent>> listen(TraceSocket& traces, RuleBook& rules, const ProbeMarks& probe,
                                       Surroundings& surroundings) {
  std::vector<TraceEvent> events;
  ProbeFilter filter(probe);
  const auto end = Clock::now() + kLongestWait;
  auto deadline = Clock::now() + kPatience;
  while (true) {
    const auto left = std::chrono::duration_cast<milliseconds>(std::min(deadline, end) - Clock::now());
    if (left.count() <= 0) return events;
    auto more = traces.take(left);
    if (!more) return std::unexpected(more.error());
    std::erase_if(*more, [&](const TraceEvent& event) { return !filter.concerns(event); });
    if (more->empty()) continue;
    deadline = Clock::now() + kPatience;
    for (TraceEvent& event : *more) {
      rules.learn(event);
      events.push_back(std::move(event));
    }
    const Walk walk = walk_of_probe(events, probe, surroundings);
    if (walk.end == End::queued && a_program_reads_a_queue()) {
      deadline = end;
    } else if (walk.end != End::vanished) {
      return events;
    }
  }
}

Status send_probe(const Question& question, const ProbeMarks& probe, const LocalProbe& local,
                  const std::optional<LocalProbeSocket>& socket) {
  const auto payload = payload_of(probe.cookie);
  if (socket) return send_local_probe(*socket, local, payload);
  const SocketAddress from{.address = *probe.source, .port = probe.source_port};
  const auto packet = probe.transport == Transport::tcp ? build_syn(from, probe.destination, probe.cookie, {})
                                                        : build_datagram(from, probe.destination, payload, {});
  return inject_packet(question.interface, packet);
}

/// Asks every instance's programs at `interface`. What cannot be asked is a trouble.
void ask_all_programs(Surroundings& surroundings, const ProbeMarks& probe, const std::string& interface,
                      std::uint32_t mark, const std::optional<std::uint32_t>& user) {
  for (const EbpfInstallation& installation : surroundings.ebpf) {
    const std::string& name = installation.ownership.name;
    const auto answer = ask_programs(installation, probe, interface, mark, user);
    if (!answer) {
      surroundings.troubles.push_back(answer.error().message());
    } else if (*answer) {
      surroundings.ebpf_answers.emplace(name, **answer);
    } else if (!user || installation.ownership.local) {
      surroundings.troubles.push_back(fmt::format("instance {} has no eBPF program at {}", name, interface));
    }
  }
}

/// Where a program at tc ingress ends the packet's way, no hook of netfilter's would keep its answer back: it is not sent at all.
Walk stopped_walk(const ProbeMarks& probe, const Question& question, const Verdict& verdict) {
  Walk walk;
  walk.first = TracedPacket{.source = {.address = *probe.source, .port = probe.source_port},
                            .destination = question.destination,
                            .after_ports = {},
                            .payload = {}};
  walk.last = walk.first;
  walk.arrived_at = question.interface;
  walk.end = verdict.outcome == Outcome::rejected ? End::rejected : End::dropped;
  walk.answered = verdict.outcome == Outcome::rejected;
  return walk;
}

void keep_answers(const Surroundings& surroundings, Explanation& explanation) {
  explanation.ebpf = surroundings.ebpf_answers;
  std::ranges::copy(surroundings.troubles, std::back_inserter(explanation.notes));
}

/// The kernel chooses a local probe's address only when it is sent: this is what it will say.
SocketAddress source_of(const ProbeMarks& probe) {
  SocketAddress source{.address = IpAddress::any(probe.destination.family()), .port = probe.source_port};
  if (probe.source) {
    source.address = *probe.source;
  } else if (const auto chosen = source_towards(probe.destination, 0)) {
    source.address = *chosen;
  }
  return source;
}

void add_notes(const Explanation& explanation, const RuleBook& rules, std::uint64_t losses,
               std::vector<std::string>& notes) {
  for (const std::string& trouble : rules.troubles())
    notes.push_back("its rules are shown by handle alone: " + trouble);
  if (losses > 0) notes.emplace_back("the kernel had more to say than could be heard: steps are missing");
  if (!explanation.evidence.legacy_tables.empty()) {
    notes.push_back(
        fmt::format("iptables-legacy has rules (tables {}), which no trace of nftables shows: see them with "
                    "`iptables-legacy-save`",
                    explanation.evidence.legacy_tables));
  }
  if (explanation.walk.end == End::queued && a_program_reads_a_queue()) {
    notes.push_back(
        fmt::format("the program had not given it back after {} s; when it does, the probe goes on like any packet",
                    kLongestWait.count() / 1000));
  }
  if (explanation.walk.end == End::vanished && !explanation.evidence.no_drop_reasons.empty()) {
    notes.push_back("the kernel's drop reasons could not be read: " + explanation.evidence.no_drop_reasons);
  }
}

/// Whether the eBPF programs answer the packet by themselves. The probe is not sent then: its answer would reach the client that it names.
bool programs_keep(const ProbeMarks& probe, Surroundings& surroundings, Explanation& explanation) {
  const Question& question = explanation.question;
  ask_all_programs(surroundings, probe, question.interface, 0, {});
  auto verdict = judge_programs(surroundings);
  if (!verdict || verdict->outcome == Outcome::intercepted) return false;
  explanation.walk = stopped_walk(probe, question, *verdict);
  explanation.verdict = std::move(*verdict);
  keep_answers(surroundings, explanation);
  explanation.notes.emplace_back("the eBPF programs were asked only: the probe that they would answer was not sent");
  return true;
}

/// A packet that met no hook: what was sent is all that is known.
void note_unseen(const ProbeMarks& probe, const Question& question, Walk& walk) {
  if (walk.first) return;
  walk.first =
      TracedPacket{.source = source_of(probe), .destination = question.destination, .after_ports = {}, .payload = {}};
  walk.last = walk.first;
  walk.arrived_at = question.interface;
}

}  // namespace

Result<Explanation> explain_packet(const Question& asked) {
  Explanation explanation{
      .question = asked, .walk = {}, .evidence = {}, .verdict = {}, .ebpf = {}, .relay = {}, .notes = {}};
  Question& question = explanation.question;
  auto routing = RouteSocket::open();
  if (!routing) return std::unexpected(routing.error());
  if (auto chosen = choose_interface(*routing, question); !chosen) return std::unexpected(chosen.error());
  auto traces = TraceSocket::open();
  if (!traces) return without_privileges(traces.error(), *routing, question);
  const auto lock = lock_tracing("explain");
  if (!lock) return std::unexpected(lock.error());
  auto surroundings = look_around(*routing);
  if (!surroundings) return std::unexpected(surroundings.error());
  RuleBook rules;
  surroundings->rules = &rules;

  ProbeMarks probe = marks_for(question);
  const LocalProbe local{.transport = question.transport,
                         .user = question.user,
                         .group = question.group,
                         .source = question.source,
                         .destination = question.destination};
  std::optional<LocalProbeSocket> socket;
  if (question.local) {
    auto opened = open_local_probe(local, probe.cookie);
    if (!opened) return std::unexpected(opened.error());
    probe.source_port = opened->port;
    socket = std::move(*opened);
  }

  if (!question.local && programs_keep(probe, *surroundings, explanation)) return explanation;

  TableGuard table;
  const std::string object = fmt::format("nft table inet {}", kExplainTable);
  if (auto made = feed_nft(NftMode::apply, render_explain_table(probe, getpid()), object); !made) {
    return std::unexpected(made.error());
  }
  table.installed();
  const SetEntries entries(probe, source_of(probe), surroundings->instances);
  auto drops = DropWatch::open();
  if (!drops) explanation.evidence.no_drop_reasons = drops.error().message();
  const DropCounters before = read_drop_counters();
  const Status sent = send_probe(question, probe, local, socket);
  // A local packet that the kernel has no way for is an answer; so is one that a rule refused (EPERM).
  if (!sent && (!question.local || sent.error().code == EINVAL)) return std::unexpected(sent.error());
  auto events = listen(*traces, rules, probe, *surroundings);
  if (!events) return std::unexpected(events.error());
  explanation.walk = walk_of_probe(*events, probe, *surroundings);
  if (drops && explanation.walk.end == End::vanished) {
    const bool ipv4 = question.destination.family() == Family::ipv4;
    explanation.evidence.drop_reasons = drops->take(ipv4 ? kEtherTypeIpv4 : kEtherTypeIpv6);
    // The answer that we kept back is one more.
    if (explanation.walk.answered) std::erase(explanation.evidence.drop_reasons, "NETFILTER_DROP");
  }
  explanation.evidence.counters = rise(before, read_drop_counters());
  socket.reset();
  if (auto removed = table.remove(); !removed) return std::unexpected(removed.error());

  Walk& walk = explanation.walk;
  note_unseen(probe, question, walk);
  question.source = walk.first->source;
  entries.remove();
  // Through loopback it passed postrouting once, where conntrack took it for confirmed.
  if (question.local) std::ignore = forget_connection(question.transport, walk.first->source, question.destination);
  explanation.evidence.legacy_tables = find_legacy_tables();
  gather_evidence(walk, question.user, explanation.evidence);
  std::optional<Verdict> behind;  // programs at tc egress come after all hooks
  if (question.local && walk.end == End::left) {
    probe.source = walk.first->source.address;
    ask_all_programs(*surroundings, probe, walk.left_by, walk.mark, question.user.value_or(::geteuid()));
    behind = judge_programs(*surroundings);
  }
  explanation.verdict = behind ? std::move(*behind) : judge(walk, *surroundings, explanation.evidence);
  // Our own table ends a probe that gets as far, and sending it says EPERM then as well.
  if (!sent && walk.steps.empty() && walk.end == End::vanished) {
    explanation.verdict = {
        .outcome = Outcome::dropped, .reason = sent.error().message(), .instance = {}, .listener = {}};
  }
  if (explanation.verdict.listener) {
    explanation.relay = find_intent(question.transport, *explanation.verdict.listener,
                                    {.client = walk.first->source, .original_destination = question.destination});
  }
  keep_answers(*surroundings, explanation);
  for (const auto& [name, owner] : surroundings->instances) {
    if (owner.backend == Backend::iptables_legacy)
      explanation.notes.push_back(legacy_note(owner, question.destination.family()));
  }
  add_notes(explanation, rules, traces->losses(), explanation.notes);
  return explanation;
}

}  // namespace limpid
