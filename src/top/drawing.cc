// Three heads, for high, low and lowest screens; columns of the table leave as the screen gets narrower, those that matter least first.
#include "top/drawing.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "top/figures.h"

namespace limpid::top {
namespace {

constexpr std::size_t kNarrowest = 24;
constexpr std::size_t kLowest = 4;
constexpr std::size_t kHigh = 12;
constexpr std::size_t kMiddle = 8;

/// Cut to the screen: every character of ours takes one cell.
std::string cut(std::string text, std::size_t columns) {
  std::size_t cells = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool begins = (static_cast<unsigned char>(text[i]) & 0xc0U) != 0x80U;
    if (begins && cells++ == columns) {
      text.resize(i);
      break;
    }
  }
  return text;
}

std::size_t head_lines(const Canvas& canvas) {
  if (canvas.lines >= kHigh) return 6;
  return canvas.lines >= kMiddle ? 4 : 2;
}

std::string throughput(const View& view, const Canvas& canvas, bool up) {
  const auto& meter = view.meter();
  std::vector<double> values;
  double highest = 0;
  values.reserve(meter.history().size());
  for (const auto& each : meter.history()) values.push_back(up ? each.up : each.down);
  std::string text =
      fmt::format("{:<5}{:>6}B/s ", up ? "up" : "down", short_amount(up ? meter.rates().up : meter.rates().down));
  constexpr std::size_t kLabel = 13;  // " highest 999M"
  const std::size_t room = canvas.columns > text.size() + kLabel ? canvas.columns - text.size() - kLabel : 0;
  const std::size_t shown = std::min(room, values.size());
  for (const double value : std::span(values).last(shown)) highest = std::max(highest, value);
  text += blocks(values, highest, room, canvas.unicode);
  return text + fmt::format(" {:>7}{:>5}", "highest", short_amount(highest));
}

std::string flows_line(const View& view) {
  const auto& last = view.meter().last();
  const auto& rates = view.meter().rates();
  std::string text = fmt::format("flows tcp {}", last.tcp);
  if (last.tcp_cut > 0) text += fmt::format(" ({} cut through)", last.tcp_cut);
  text += fmt::format("  udp {}", last.udp);
  if (last.udp_cut > 0) text += fmt::format(" ({} cut through)", last.udp_cut);
  return text + fmt::format("  new {}/s tcp {}/s udp  refused {}/s", short_rate(rates.connections),
                            short_rate(rates.sessions), short_rate(rates.refusals));
}

std::string choice_line(const View& view) {
  const auto& choice = view.choice();
  const auto& meter = view.meter();
  std::string text = fmt::format("sort {}  group {}", to_string(choice.sort), to_string(choice.group));
  if (choice.within != Group::none) text += fmt::format("  only {} {}", to_string(choice.within), choice.within_key);
  if (!choice.filter.empty()) text += fmt::format("  filter \"{}\"", choice.filter);
  text += fmt::format("  {} {}", view.rows().size(), choice.group == Group::none ? "shown" : "groups");
  // More than were asked for: those come that matter for the order.
  if (!meter.last().all_flows) text += fmt::format(" of the first {}", meter.flows().size());
  return text;
}

Line title(const View& view) {
  const auto& last = view.meter().last();
  if (!view.trouble().empty()) return {view.trouble(), Style::alert};
  if (view.meter().empty()) return {"limpid top", Style::title};
  std::string text = fmt::format("limpid {}  {}  for {}", last.instance, last.state, short_time(last.uptime_ms));
  if (!last.plan.empty()) text += fmt::format("  rules {}", last.plan);
  if (view.paused()) text += "  PAUSED";
  const bool is_well = last.state == "serving" && last.plan != "disturbed" && last.plan != "given_up";
  return {text, is_well ? Style::title : Style::alert};
}

struct Column {
  std::string_view title;
  std::size_t cells;
  std::size_t narrowest;  ///< screen that has it
  bool right;
};

using ColumnName = std::size_t;
constexpr ColumnName kClient = 0;
constexpr ColumnName kDestination = 1;
constexpr ColumnName kName = 2;
constexpr ColumnName kUpstream = 3;
constexpr ColumnName kProtocol = 4;
constexpr ColumnName kRule = 5;
constexpr ColumnName kUp = 6;
constexpr ColumnName kDown = 7;
constexpr ColumnName kBytes = 8;
constexpr ColumnName kAge = 9;
constexpr ColumnName kColumns = 10;

/// 0 cells where the screen has no room for it.
std::array<Column, kColumns> columns_of(const Canvas& canvas, Group group) {
  std::array<Column, kColumns> columns{{{"CLIENT", 0, 0, false},
                                        {"DESTINATION", 0, 0, false},
                                        {"NAME", 0, 100, false},
                                        {"UPSTREAM", 16, 130, false},
                                        {"PROT", 4, 72, false},
                                        {"RULE", 4, 76, true},
                                        {"UP/s", 5, 0, true},
                                        {"DOWN/s", 6, 0, true},
                                        {"BYTES", 5, 60, true},
                                        {"AGE", 6, 66, true}}};
  if (group != Group::none) {
    columns[kClient].title = "GROUP";
    columns[kDestination].title = "FLOWS";
    for (const auto left_out : {kName, kUpstream, kProtocol, kRule})
      columns.at(left_out).narrowest = canvas.columns + 1;
  }
  std::size_t taken = 0;
  for (auto& column : columns) {
    if (canvas.columns < column.narrowest) column.cells = 0;
    if (column.cells > 0) taken += column.cells + 1;
  }
  const std::size_t room = canvas.columns > taken ? canvas.columns - taken : 0;
  if (group != Group::none) {
    columns[kDestination].cells = std::min<std::size_t>(room / 4, 6);
    columns[kDestination].right = true;
    columns[kClient].cells = room - std::min(room, columns[kDestination].cells + 1);
    return columns;
  }
  const bool named = canvas.columns >= columns[kName].narrowest;
  const std::size_t shares = named ? 3 : 2;
  const std::size_t share = room > shares ? (room - (shares - 1)) / shares : 0;
  columns[kClient].cells = share;
  if (named) columns[kName].cells = share;
  columns[kDestination].cells = room - std::min(room, (shares - 1) * (share + 1));
  return columns;
}

std::string shown_name(const FlowReading& flow) {
  return flow.name.empty() ? "-" : flow.name + (flow.has_hint() ? " (dns-hint)" : "");
}

std::string cell(const Row& row, ColumnName column, Group group, bool has_name) {
  const auto& flow = row.rated.flow;
  const auto rate = [&](double value) { return row.rated.known ? short_amount(value) : std::string("-"); };
  switch (column) {
    case kClient: return group == Group::none ? flow.client : row.key;
    case kDestination:
      if (group != Group::none) return fmt::format("{}", row.flows);
      // Where there is no room for both, a name says more; its port stays. A hint does not take the place of what is known.
      if (has_name || flow.name.empty() || flow.has_hint()) return flow.destination;
      return flow.name + flow.destination.substr(std::min(flow.destination.rfind(':'), flow.destination.size()));
    case kName: return shown_name(flow);
    case kUpstream: return flow.upstream.empty() ? "-" : flow.upstream;
    case kProtocol: return flow.protocol + (flow.cut_through ? "*" : "");
    case kRule: return flow.rule ? fmt::format("{}", *flow.rule) : "-";
    case kUp: return rate(row.rated.up);
    case kDown: return rate(row.rated.down);
    case kBytes: return short_amount(static_cast<double>(flow.bytes_up + flow.bytes_down));
    case kAge: return short_time(flow.age_ms);
    default: return {};
  }
}

template <typename Text>
std::string table_line(const std::array<Column, kColumns>& columns, Text text) {
  std::string line;
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const auto& column = columns.at(i);
    if (column.cells == 0) continue;
    if (!line.empty()) line += ' ';
    line += fitted(text(i), column.cells, column.right);
  }
  return line;
}

void add_table(const View& view, const Canvas& canvas, std::vector<Line>& lines) {
  const Group group = view.choice().group;
  const auto columns = columns_of(canvas, group);
  lines.push_back({table_line(columns, [&](ColumnName name) { return columns.at(name).title; }), Style::head});
  const std::size_t end = std::min(view.rows().size(), view.first() + rows_that_fit(canvas));
  for (std::size_t i = view.first(); i < end; ++i) {
    const auto text = [&](ColumnName name) { return cell(view.rows()[i], name, group, columns[kName].cells > 0); };
    lines.push_back({table_line(columns, text), i == view.cursor() ? Style::cursor : Style::plain});
  }
}

void add_flow(const View& view, std::vector<Line>& lines) {
  const auto& rated = *view.chosen();
  const auto& flow = rated.flow;
  lines.push_back(
      {fmt::format("flow {}{}", flow.id, view.chosen_is_over() ? "  is over, or not among those asked for" : ""),
       Style::head});
  const auto add = [&](std::string_view key, const std::string& value) {
    lines.push_back({fmt::format("{:<13}{}", key, value.empty() ? "-" : value), Style::plain});
  };
  const auto moved = [&](std::uint64_t bytes, double rate) {
    return fmt::format("{} bytes, {}B/s", bytes, rated.known ? short_amount(rate) : std::string("- "));
  };
  add("client", flow.client);
  add("destination", flow.destination);
  add("name", shown_name(flow));
  add("up", moved(flow.bytes_up, rated.up));
  add("down", moved(flow.bytes_down, rated.down));
  add("protocol", flow.protocol + (flow.cut_through ? ", cut through" : ""));
  add("state", flow.state);
  add("age", short_time(flow.age_ms) + ", idle " + short_time(flow.idle_ms));
  add("rule", flow.rule ? fmt::format("{}", *flow.rule) : "");
  add("upstream", flow.upstream);
  add("target", flow.target);
  add("source", flow.source);
  add("first bytes", flow.app);
}

void add_help(std::vector<Line>& lines) {
  constexpr std::array<std::string_view, 12> kHelp{"arrows, PgUp, PgDn, Home, End   move",
                                                   "Enter   look at a flow, or into a group",
                                                   "Esc     back; in the table: no filter",
                                                   "k       kill the flow (asks)",
                                                   "s       next order; r rate, b bytes, a age,",
                                                   "        c client, d destination",
                                                   "g       next grouping",
                                                   "/       filter: type, Enter; Esc: as before",
                                                   "p       pause",
                                                   "^L      draw anew",
                                                   "q       quit",
                                                   "tcp*    cut through: forwarded past the relay"};
  lines.push_back({"keys", Style::head});
  for (const auto line : kHelp) lines.push_back({std::string(line), Style::plain});
}

Line footer(const View& view) {
  if (view.mode() == Mode::filter) return {fmt::format("filter: {}_", view.choice().filter), Style::title};
  if (view.mode() == Mode::confirm && view.chosen()) {
    const auto& flow = view.chosen()->flow;
    return {fmt::format("kill {}, {} to {}? y/n", flow.id, flow.client, flow.destination), Style::alert};
  }
  if (!view.message().empty()) return {view.message(), Style::title};
  if (view.mode() == Mode::flow) return {"Esc back  k kill  p pause  h help  q quit", Style::quiet};
  if (view.mode() == Mode::help) return {"any key: back  q quit", Style::quiet};
  return {"q quit  h help  / filter  s sort  g group  Enter look  k kill  p pause", Style::quiet};
}

}  // namespace

std::size_t rows_that_fit(const Canvas& canvas) {
  const std::size_t others = head_lines(canvas) + 1;
  return canvas.lines > others ? canvas.lines - others : 0;
}

std::vector<Line> draw(const View& view, const Canvas& canvas) {
  std::vector<Line> lines;
  if (canvas.columns < kNarrowest || canvas.lines < kLowest) {
    lines.push_back({fmt::format("at least {}x{}, please", kNarrowest, kLowest), Style::alert});
  } else {
    const std::size_t head = head_lines(canvas);
    const auto& rates = view.meter().rates();
    const std::string both = fmt::format("up {}B/s  down {}B/s", short_amount(rates.up), short_amount(rates.down));
    if (head == 6) {
      lines.push_back(title(view));
      lines.push_back({throughput(view, canvas, true), Style::up});
      lines.push_back({throughput(view, canvas, false), Style::down});
      lines.push_back({flows_line(view), Style::plain});
      lines.push_back({choice_line(view), Style::plain});
    } else if (head == 4) {
      lines.push_back(view.trouble().empty() ? Line{both + (view.paused() ? "  PAUSED" : ""), Style::up} : title(view));
      lines.push_back({flows_line(view), Style::plain});
      lines.push_back({choice_line(view), Style::plain});
    } else {
      lines.push_back(view.trouble().empty() ? Line{both + (view.paused() ? "  PAUSED" : ""), Style::up} : title(view));
    }
    if (view.mode() == Mode::help) {
      add_help(lines);
    } else if (view.mode() != Mode::table && view.mode() != Mode::filter && view.chosen()) {
      add_flow(view, lines);
    } else {
      add_table(view, canvas, lines);
    }
    lines.resize(canvas.lines - 1);
    lines.push_back(footer(view));
  }
  lines.resize(canvas.lines);
  for (auto& line : lines) {
    line.text = cut(std::move(line.text), canvas.columns);
    if (line.style == Style::head || line.style == Style::cursor)
      line.text.resize(std::max(line.text.size(), canvas.columns), ' ');
  }
  return lines;
}

std::string draw_once(const View& view, const Canvas& canvas) {
  auto lines = draw(view, canvas);
  lines.pop_back();
  while (!lines.empty() && lines.back().text.empty()) lines.pop_back();
  std::string text;
  for (auto& line : lines) {
    line.text.erase(line.text.find_last_not_of(' ') + 1);
    text += line.text + "\n";
  }
  return text;
}

}  // namespace limpid::top
