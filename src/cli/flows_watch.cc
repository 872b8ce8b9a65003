// Each list is put together before it is written, so that no terminal shows half of one.
#include "cli/flows_watch.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/log.h"
#include "base/plural.h"
#include "cli/duration.h"
#include "cli/flow_flags.h"
#include "cli/relay_flags.h"
#include "cli/verb.h"
#include "control/http_client.h"
#include "relay/clock.h"
#include "top/drawing.h"
#include "top/reading.h"
#include "top/terminal.h"

namespace limpid {
namespace {

using nlohmann::ordered_json;

constexpr std::chrono::milliseconds kShortest{100};
constexpr std::uint64_t kMostLists = 1'000'000'000;
constexpr std::size_t kUsualFlows = 100;
constexpr std::size_t kMostFlows = 1000;
/// Lines of a screen without a flow in them: time, head, and that of the cursor.
constexpr std::size_t kOtherLines = 3;
/// To the upper left, and nothing below (ECMA-48: CUP, ED).
constexpr std::string_view kAnew = "\x1b[H\x1b[J";

std::string head_of(const ordered_json& page) {
  const auto& matched = page["matched"];
  const std::string count = matched.is_number_unsigned()
                                ? fmt::format("{} of {} flows", page["flows"].size(), matched.get<std::uint64_t>())
                                : fmt::format("{}{}", counted(page["flows"].size(), "flow"),
                                              page["next"].is_string() ? ", and there are more" : "");
  return fmt::format("{}  {}", format_timestamp(wall_clock_us()), count);
}

/// `columns`: 0: as wide as it is.
std::string as_text(const ordered_json& page, std::size_t columns) {
  std::string text;
  const auto add = [&](const std::string& line) {
    text += columns == 0 ? line : top::in_cells(line).substr(0, columns);
    text += '\n';
  };
  add(head_of(page));
  add(flow_table_head());
  for (const auto& flow : page["flows"]) add(flow_table_line(flow));
  return text;
}

}  // namespace

Result<WatchRhythm> parse_watch_rhythm(const std::string& interval, const std::string& count) {
  WatchRhythm rhythm;
  if (!interval.empty()) {
    const auto parsed = parse_duration("--interval", interval);
    if (!parsed) return std::unexpected(parsed.error());
    if (*parsed < kShortest) return usage_error("--interval", interval, "too short", "100ms or more");
    rhythm.interval = *parsed;
  }
  const auto lists = parse_count("--count", count, kMostLists);
  if (!lists) return std::unexpected(lists.error());
  rhythm.count = *lists;
  return rhythm;
}

int watch_flows(const ControlFlags& instance, const std::string& target, const std::string& limit,
                const WatchRhythm& rhythm) {
  const bool on_terminal = !instance.json && ::isatty(STDOUT_FILENO) != 0;
  auto next = std::chrono::steady_clock::now();
  for (std::uint64_t lists = 0; rhythm.count == 0 || lists < rhythm.count; ++lists) {
    if (lists != 0) std::this_thread::sleep_until(next);
    next = std::max(next + rhythm.interval, std::chrono::steady_clock::now());
    std::size_t columns = 0;
    std::size_t flows = kUsualFlows;
    if (on_terminal) {
      const top::Canvas canvas = top::size_of_terminal(STDOUT_FILENO);
      columns = canvas.columns;
      flows = std::clamp<std::size_t>(canvas.lines > kOtherLines ? canvas.lines - kOtherLines : 1, 1, kMostFlows);
    }
    const auto page =
        fetch(instance, "GET",
              fmt::format("{}&limit={}", target, limit.empty() ? std::to_string(flows) : percent_encode(limit)));
    if (!page) return report(page.error());
    if (!page->is_object() || !page->contains("flows") || !page->contains("matched") || !page->contains("next"))
      return report(failure("flows", instance.name, "its answer makes no sense", "is it another version?").error());
    std::string text;
    if (instance.json) {
      text = page->dump(-1, ' ', false, ordered_json::error_handler_t::replace) + '\n';
    } else {
      if (lists != 0 && !on_terminal) text = "\n";
      text.append(on_terminal ? kAnew : std::string_view()).append(as_text(*page, columns));
    }
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) return kExitDone;
  }
  return kExitDone;
}

}  // namespace limpid
