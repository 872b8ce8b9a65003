// See render.h. Rules' texts and comments are others': nothing in them may act on a terminal.
#include "explain/render.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/terminal_text.h"

namespace limpid {
namespace {

using Json = nlohmann::ordered_json;

std::string connection_state(std::uint32_t bits) {
  constexpr std::array<std::pair<std::uint32_t, std::string_view>, 5> kStates = {
      {{1, "invalid"}, {2, "established"}, {4, "related"}, {8, "new"}, {64, "untracked"}}};
  std::string text;
  for (const auto& [bit, name] : kStates) {
    if ((bits & bit) != 0) text += (text.empty() ? "" : ",") + std::string(name);
  }
  return text;
}

std::string tcp_flags(std::uint8_t flags) {
  constexpr std::array<std::pair<std::uint8_t, std::string_view>, 6> kFlags = {
      {{0x02, "syn"}, {0x10, "ack"}, {0x08, "psh"}, {0x01, "fin"}, {0x04, "rst"}, {0x20, "urg"}}};
  std::string text;
  for (const auto& [bit, name] : kFlags) {
    if ((flags & bit) != 0) text += (text.empty() ? "" : ",") + std::string(name);
  }
  return text;
}

/// What a reader need not see: chains that a packet only passed through.
bool is_silent(const Step& step) {
  if (!step.words.empty()) return false;
  if (step.kind == TraceKind::fell_out) return true;
  if (!step.instance.empty() && step.verdict != TraceVerdict::drop) return true;
  return step.kind == TraceKind::policy && step.verdict != TraceVerdict::drop;
}

std::string steps_in_words(const Walk& walk, std::string_view indent) {
  std::string text;
  std::string hook;
  std::uint32_t mark = 0;
  for (const Step& step : walk.steps) {
    const bool mark_changed = step.mark != mark;
    mark = step.mark;
    if (is_silent(step)) continue;
    if (step.hook != hook) {
      hook = step.hook;
      std::string where = step.input_interface;
      if (!step.output_interface.empty()) where += (where.empty() ? "to " : " to ") + step.output_interface;
      text += fmt::format("{}{}{}\n", indent, hook.empty() ? "(an unknown hook)" : hook,
                          where.empty() ? "" : " (" + where + ")");
    }
    text += fmt::format("{}  {}", indent, for_terminal(name_of_rule(step)));
    if (mark_changed) text += fmt::format("  [mark {:#x}]", step.mark);
    text += '\n';
    const std::string meaning = !step.words.empty() ? step.words : step.instance.empty() ? step.comment : "";
    if (!meaning.empty()) text += fmt::format("{}      {}\n", indent, for_terminal(meaning));
  }
  return text;
}

std::string headline(const Walk& walk, Transport transport, bool unicode) {
  return fmt::format("{} {} {} {}", to_string(transport), walk.first->source.to_string(), unicode ? "→" : "->",
                     walk.first->destination.to_string());
}

std::string verdict_line(const Verdict& verdict) {
  std::string who;
  if (!verdict.instance.empty() && verdict.instance != "limpid") who = fmt::format(" (instance {})", verdict.instance);
  return fmt::format("verdict: {}{}: {}\n", to_string(verdict.outcome), who, for_terminal(verdict.reason));
}

std::string programs_in_words(const Explanation& explanation) {
  std::string text;
  for (const auto& [name, answer] : explanation.ebpf) {
    text += fmt::format("tc {} ({})\n  eBPF programs of {}: {}\n      {}\n",
                        explanation.question.local ? "egress" : "ingress", for_terminal(answer.interface), name,
                        decision_name(answer.decision), for_terminal(answer.words));
  }
  return text;
}

std::string end_in_words(const Explanation& explanation) {
  const Walk& walk = explanation.walk;
  std::string text;
  if (explanation.evidence.route) {
    text += fmt::format("routing: {}", describe(*explanation.evidence.route));
    const std::uint32_t mark = explanation.question.local ? walk.sent_mark : walk.mark;
    if (mark != 0) text += fmt::format(", with mark {:#x}", mark);
    text += '\n';
  }
  if (walk.end == End::delivered) {
    text += fmt::format("socket: {}\n",
                        walk.has_socket ? "one of this host's waits for it" : "none of this host's waits for it");
  }
  if (walk.answered) text += "answer: a reset or an ICMP error to the sender (kept back: it was a probe)\n";
  if (explanation.relay) text += fmt::format("relay: {}\n", for_terminal(explanation.relay->words));
  return text;
}

Json json_of(const Step& step) {
  constexpr std::array<std::string_view, 3> kKinds = {"rule", "end of chain", "policy"};
  Json json = {{"hook", step.hook},
               {"family", step.table.family},
               {"table", step.table.name},
               {"chain", step.chain},
               {"kind", kKinds.at(static_cast<std::size_t>(step.kind))},
               {"handle", step.handle},
               {"rule", step.rule},
               {"comment", step.comment},
               {"verdict", to_string(step.verdict)},
               {"target", step.target},
               {"mark", step.mark},
               {"input_interface", step.input_interface},
               {"output_interface", step.output_interface}};
  json["connection_state"] = step.connection_state ? Json(connection_state(*step.connection_state)) : Json(nullptr);
  json["instance"] = step.instance.empty() ? Json(nullptr) : Json(step.instance);
  json["words"] = step.words;
  return json;
}

Json json_of(const std::optional<RouteAnswer>& answer) {
  if (!answer) return nullptr;
  constexpr std::array<std::string_view, 4> kKinds = {"unicast", "local", "many", "refused"};
  Json json = {{"kind", kKinds.at(static_cast<std::size_t>(answer->kind))},
               {"device", answer->device},
               {"table", answer->table.value},
               {"errno", answer->error}};
  json["gateway"] = answer->gateway ? Json(answer->gateway->to_string()) : Json(nullptr);
  return json;
}

void add_walk(Json& json, const Walk& walk) {
  Json steps = Json::array();
  for (const Step& step : walk.steps) steps.push_back(json_of(step));
  json["steps"] = std::move(steps);
  json["end"] = to_string(walk.end);
  json["mark"] = walk.mark;
  json["left_by"] = walk.left_by.empty() ? Json(nullptr) : Json(walk.left_by);
}

void add_verdict(Json& json, const Verdict& verdict) {
  json["verdict"] = to_string(verdict.outcome);
  json["reason"] = verdict.reason;
  json["instance"] = verdict.instance.empty() ? Json(nullptr) : Json(verdict.instance);
  json["listener_port"] = verdict.listener ? Json(verdict.listener->value) : Json(nullptr);
}

std::string_view lower(Transport transport) {
  return transport == Transport::tcp ? "tcp" : "udp";
}

std::string dump(const Json& json, int indent) {
  // Names and comments in the kernel need not be UTF-8.
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace

std::string render_text(const Explanation& explanation, bool unicode) {
  const Question& question = explanation.question;
  std::string text = headline(explanation.walk, question.transport, unicode);
  if (question.local) {
    text += ", sent by this host";
    if (question.user) text += fmt::format(" (user {})", *question.user);
    if (question.group) text += fmt::format(" (group {})", *question.group);
  } else {
    text += ", arriving on " + question.interface;
  }
  // What arrives meets the programs first; what is sent here meets them last.
  text += '\n';
  if (!question.local) text += programs_in_words(explanation);
  text += steps_in_words(explanation.walk, "");
  if (question.local) text += programs_in_words(explanation);
  text += end_in_words(explanation);
  for (const std::string& note : explanation.notes) text += fmt::format("note: {}\n", for_terminal(note));
  return text + verdict_line(explanation.verdict);
}

std::string render_json(const Explanation& explanation) {
  const Question& question = explanation.question;
  Json json = {{"schema", 1},
               {"transport", lower(question.transport)},
               {"source", explanation.walk.first->source.to_string()},
               {"destination", question.destination.to_string()},
               {"local", question.local}};
  json["interface"] = question.interface.empty() ? Json(nullptr) : Json(question.interface);
  json["user"] = question.user ? Json(*question.user) : Json(nullptr);
  json["group"] = question.group ? Json(*question.group) : Json(nullptr);
  add_walk(json, explanation.walk);
  Json programs = Json::array();
  for (const auto& [name, answer] : explanation.ebpf) {
    programs.push_back({{"instance", name},
                        {"interface", answer.interface},
                        {"decision", decision_name(answer.decision)},
                        {"words", answer.words}});
  }
  json["ebpf"] = std::move(programs);
  json["answered"] = explanation.walk.answered;
  json["has_socket"] = explanation.walk.has_socket;
  json["route"] = json_of(explanation.evidence.route);
  json["drop_reasons"] = explanation.evidence.drop_reasons;
  json["counters"] = explanation.evidence.counters;
  Json relay = nullptr;
  if (explanation.relay) {
    relay = {
        {"pid", explanation.relay->pid}, {"process", explanation.relay->process}, {"known", explanation.relay->known}};
    const bool dials = explanation.relay->known && !explanation.relay->refusal;
    relay["refusal"] = explanation.relay->refusal ? Json(to_string(*explanation.relay->refusal)) : Json(nullptr);
    relay["target"] = dials ? Json(explanation.relay->target.to_string()) : Json(nullptr);
    relay["source"] = dials ? Json(to_string(explanation.relay->source)) : Json(nullptr);
    relay["words"] = explanation.relay->words;
  }
  json["relay"] = std::move(relay);
  json["notes"] = explanation.notes;
  add_verdict(json, explanation.verdict);
  return dump(json, 2);
}

std::string render_text(const FollowedPacket& packet, Transport transport, bool unicode) {
  std::string text = headline(packet.walk, transport, unicode);
  if (const std::string flags = tcp_flags(packet.walk.first->tcp_flags); !flags.empty())
    text += fmt::format(" [{}]", flags);
  text += packet.walk.arrived_at.empty() ? ", sent by this host\n"
                                         : fmt::format(", arriving on {}\n", packet.walk.arrived_at);
  return text + steps_in_words(packet.walk, "  ") + "  " + verdict_line(packet.verdict);
}

std::string render_json(const FollowedPacket& packet, Transport transport) {
  Json json = {{"schema", 1},
               {"id", packet.id},
               {"transport", lower(transport)},
               {"source", packet.walk.first->source.to_string()},
               {"destination", packet.walk.first->destination.to_string()},
               {"tcp_flags", tcp_flags(packet.walk.first->tcp_flags)}};
  json["interface"] = packet.walk.arrived_at.empty() ? Json(nullptr) : Json(packet.walk.arrived_at);
  add_walk(json, packet.walk);
  add_verdict(json, packet.verdict);
  return dump(json, -1);
}

}  // namespace limpid
