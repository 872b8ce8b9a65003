// Theory of operation. Messages about one packet come in order, but those about others stand between them: the copy that `dup` makes, and
// the reset that `reject` sends, walk through output and postrouting while the rule that made them is still at work, so their messages come
// first. Hence messages are put together by id, ids in the order of their first message, and the probe's ends where its last id does.
#include "explain/walk.h"

#include <algorithm>

#include "explain/words.h"
#include "explain/xtables_words.h"

namespace limpid {
namespace {

constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;

bool is_our_own_table(const TraceEvent& event) {
  return event.family == "inet" && (event.table == kExplainTable || event.table == kTraceTable);
}

bool says_reject(std::string_view rule) {
  // nft's statement, or iptables' target.
  return rule.starts_with("reject") || rule.find(" reject") != std::string_view::npos ||
         rule.find("REJECT") != std::string_view::npos;
}

std::string interface_name(const Surroundings& surroundings, std::uint32_t index) {
  if (index == 0) return {};
  const auto found = surroundings.interfaces.find(index);
  return found == surroundings.interfaces.end() ? std::to_string(index) : found->second;
}

bool is_probe(const TracedPacket& packet, const ProbeMarks& probe) {
  if (probe.transport == Transport::tcp) return packet.protocol == kTcp && packet.after_ports == probe.cookie;
  return packet.protocol == kUdp && packet.payload == probe.cookie;
}

class Walker {
 public:
  explicit Walker(const Surroundings& surroundings) : surroundings_(surroundings) {}

  void take(const TraceEvent& event) {
    if (event.packet) {
      if (!walk_.first) {
        walk_.first = event.packet;
        walk_.arrived_at = interface_name(surroundings_, event.input_interface);
      }
      walk_.last = event.packet;
      // Said once for each base chain.
      input_interface_ = interface_name(surroundings_, event.input_interface);
      output_interface_ = interface_name(surroundings_, event.output_interface);
    }
    walk_.mark = event.mark;
    const ListedChain* chain = surroundings_.rules->find({event.family, event.table}, event.chain);
    if (chain != nullptr && !chain->hook.empty()) {
      hook_ = chain->hook;
      walk_.last_hook = hook_;
    }
    if (hook_ == "output") walk_.sent_mark = event.mark;
    // What it left with is seen when it comes back through lo: no trace shows the rules of iptables-legacy.
    if (hook_ == "prerouting" && walk_.arrived_at.empty() && input_interface_ == "lo" && !came_back_) {
      walk_.sent_mark = event.mark;
      came_back_ = true;
    }
    const ListedRule* rule = chain == nullptr ? nullptr : chain->find(event.rule_handle);
    if (is_our_own_table(event)) {
      take_mark_of_ours(event, rule);
    } else {
      take_step(event, rule);
    }
  }

  void begin_next_packet() {
    words_.begin_packet();
    xtables_words_.begin_packet();
  }
  Walk take_walk() { return std::move(walk_); }

 private:
  void take_mark_of_ours(const TraceEvent& event, const ListedRule* rule) {
    const std::string_view comment = rule == nullptr ? std::string_view{} : rule->comment;
    if (comment == kToThisHost) walk_.to_this_host = true;
    if (comment == kHasSocket) walk_.has_socket = true;
    // `explain` drops in these chains, `trace` hears of their policy.
    const bool ends = comment == kEndsHere || (event.table == kTraceTable && event.kind == TraceKind::policy);
    if (!ends) return;
    if (event.chain == kDeliveryChain) end_with(End::delivered);
    if (event.chain == kDepartureChain) {
      end_with(End::left);
      walk_.left_by = output_interface_;
    }
  }

  void end_with(End end, std::optional<std::size_t> step = {}) {
    walk_.end = end;
    walk_.end_step = step;
  }

  void take_step(const TraceEvent& event, const ListedRule* rule) {
    // At the end of a chain the kernel (6.18) reports the marker behind its last rule as if it were one (nft_do_chain).
    if (event.kind == TraceKind::rule && event.rule_handle == 0) return;
    Step step{.hook = hook_,
              .table = {.family = event.family, .name = event.table},
              .chain = event.chain,
              .kind = event.kind,
              .handle = event.rule_handle,
              .rule = rule == nullptr ? "" : rule->text,
              .comment = rule == nullptr ? "" : rule->comment,
              .verdict = event.verdict,
              .target = event.target,
              .mark = event.mark,
              .input_interface = input_interface_,
              .output_interface = output_interface_,
              .connection_state = event.connection_state,
              .instance = {},
              .words = {},
              .decides = false};
    if (is_iptables_table(step.table)) {
      take_iptables_step(step);
    } else if (const auto instance = instance_of(event.table)) {
      const auto found = surroundings_.instances.find(*instance);
      if (found != surroundings_.instances.end()) {
        step.instance = *instance;
        words_.explain(step, *surroundings_.rules->find({event.family, event.table}), found->second, walk_.last);
      }
    }
    walk_.steps.push_back(std::move(step));
    const std::size_t at = walk_.steps.size() - 1;
    // A later part of its way has no say about an earlier one: a new id begins with `vanished`.
    if (event.verdict == TraceVerdict::drop) {
      end_with(says_reject(walk_.steps[at].rule) ? End::rejected : End::dropped, at);
    } else if (event.verdict == TraceVerdict::queue) {
      end_with(End::queued, at);
    } else if (event.verdict == TraceVerdict::stolen) {
      end_with(End::stolen, at);
    } else {
      end_with(End::vanished);
    }
  }

  /// iptables' tables are shared: whose a rule is, its chain says.
  void take_iptables_step(Step& step) {
    auto end = xtables_words_.end_before(step, *surroundings_.rules, surroundings_.instances, walk_.last);
    if (end) walk_.steps.push_back(std::move(*end));
    // A jump to ours belongs to us as well.
    auto instance = instance_of_chain(step.chain);
    const bool leads_to_ours = !instance && step.verdict == TraceVerdict::jump;
    if (leads_to_ours) instance = instance_of_chain(step.target);
    const auto found = instance ? surroundings_.instances.find(*instance) : surroundings_.instances.end();
    if (found == surroundings_.instances.end()) return;
    step.instance = *instance;
    xtables_words_.explain(step, *surroundings_.rules, found->second, walk_.last);
  }

  const Surroundings& surroundings_;
  Walk walk_;
  Words words_;
  XtablesWords xtables_words_;
  std::string hook_;
  std::string input_interface_;
  std::string output_interface_;
  bool came_back_ = false;  ///< of a packet that this host has sent: through lo
};

}  // namespace

std::string_view to_string(End end) noexcept {
  switch (end) {
    case End::delivered: return "delivered";
    case End::left: return "left";
    case End::dropped: return "dropped";
    case End::rejected: return "rejected";
    case End::queued: return "queued";
    case End::stolen: return "stolen";
    case End::vanished: return "vanished";
  }
  return "";
}

bool ProbeFilter::concerns(const TraceEvent& event) {
  // Headers come with the first message of each base chain, and so with the first of all.
  if (event.packet && is_probe(*event.packet, probe_)) ids_.insert(event.id);
  return ids_.contains(event.id) || (is_our_own_table(event) && event.kind == TraceKind::rule);
}

Walk walk_of_packet(const std::vector<TraceEvent>& events, const Surroundings& surroundings) {
  Walker walker(surroundings);
  for (const TraceEvent& event : events) walker.take(event);
  return walker.take_walk();
}

Walk walk_of_probe(const std::vector<TraceEvent>& events, const ProbeMarks& probe, const Surroundings& surroundings) {
  std::vector<std::uint32_t> ids;
  bool answered = false;
  for (const TraceEvent& event : events) {
    if (event.packet && is_probe(*event.packet, probe) && std::ranges::find(ids, event.id) == ids.end()) {
      ids.push_back(event.id);
    }
    if (is_our_own_table(event) && event.chain == kDepartureChain) {
      const ListedChain* chain = surroundings.rules->find({event.family, event.table}, event.chain);
      const ListedRule* rule = chain == nullptr ? nullptr : chain->find(event.rule_handle);
      answered = answered || (rule != nullptr && rule->comment == kItsAnswer);
    }
  }
  Walker walker(surroundings);
  for (const std::uint32_t id : ids) {
    walker.begin_next_packet();
    for (const TraceEvent& event : events) {
      if (event.id == id) walker.take(event);
    }
  }
  Walk walk = walker.take_walk();
  walk.answered = answered;
  return walk;
}

bool is_final(const TraceEvent& event, const Surroundings& surroundings) {
  switch (event.verdict) {
    case TraceVerdict::drop:
    case TraceVerdict::queue:
    case TraceVerdict::stolen: return true;
    default: break;
  }
  return is_our_own_table(event) && event.kind == TraceKind::policy &&
         (event.chain == kDeliveryChain || event.chain == kDepartureChain) &&
         interface_name(surroundings, event.output_interface) != "lo";
}

}  // namespace limpid
