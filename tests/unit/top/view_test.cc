// The live view's model: rates out of readings, keys, rows and lines. Times are given, not measured.
#include "top/view.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "top/drawing.h"
#include "top/figures.h"
#include "top/terminal.h"

namespace limpid::top {
namespace {

using nlohmann::ordered_json;
using std::chrono::seconds;
constexpr Key kDown{KeyKind::down};
constexpr Key kEnter{KeyKind::enter};
constexpr Key kEscape{KeyKind::escape};

Key letter(char c) {
  return {KeyKind::character, c};
}

FlowReading flow(const std::string& id, const std::string& client, std::uint64_t bytes, const std::string& name = "") {
  FlowReading made;
  made.id = id;
  made.protocol = "tcp";
  made.client = client;
  made.destination = "198.51.100.2:443";
  made.name = name;
  made.bytes_up = bytes;
  made.age_ms = 60'000;
  return made;
}

Reading reading(int second, std::vector<FlowReading> flows, std::uint64_t bytes = 0) {
  Reading made;
  made.at = std::chrono::steady_clock::time_point(seconds(second));
  made.instance = "limpid";
  made.state = "serving";
  made.uptime_ms = static_cast<std::uint64_t>(second) * 1000;
  made.bytes_up = bytes;
  made.connections = static_cast<std::uint64_t>(second) * 3;
  made.flows = std::move(flows);
  return made;
}

std::string screen(const View& view, std::size_t columns = 80, std::size_t lines = 24) {
  std::string text;
  for (const auto& line : draw(view, {.columns = columns, .lines = lines, .unicode = false})) text += line.text + "\n";
  return text;
}

TEST(Rates, come_out_of_two_readings) {
  RateMeter meter;
  meter.take(reading(1, {flow("t0-1-1", "192.0.2.2:1", 100)}, 100));
  EXPECT_FALSE(meter.rates().known);
  meter.take(reading(3, {flow("t0-1-1", "192.0.2.2:1", 4100)}, 4100));
  EXPECT_DOUBLE_EQ(meter.rates().up, 2000);
  EXPECT_DOUBLE_EQ(meter.rates().connections, 3);
  EXPECT_DOUBLE_EQ(meter.flows().at(0).up, 2000);
}

TEST(Rates, count_what_is_forwarded_past_the_relay) {
  auto cut = flow("c1", "192.0.2.2:1", 1000);
  cut.cut_through = true;
  RateMeter meter;
  meter.take(reading(1, {cut}));
  cut.bytes_up = 5000;
  meter.take(reading(2, {cut}));
  EXPECT_DOUBLE_EQ(meter.rates().up, 4000);
}

TEST(Rates, begin_again_with_an_instance_that_was_started_anew) {
  RateMeter meter;
  meter.take(reading(10, {}, 1'000'000));
  auto after = reading(11, {}, 5);
  after.uptime_ms = 500;
  meter.take(after);
  EXPECT_FALSE(meter.rates().known);
  EXPECT_TRUE(meter.history().empty());
}

TEST(View, sorts_filters_groups_and_goes_into_a_group) {
  View view({});
  view.set_page(10);
  view.take(reading(1, {flow("t0-1-1", "192.0.2.2:1", 10, "a.example"), flow("t0-2-1", "192.0.2.2:2", 30),
                        flow("t0-3-1", "192.0.2.3:1", 20)}));
  EXPECT_EQ(view.rows().at(0).key, "t0-2-1");
  (void)view.press(letter('c'));
  EXPECT_EQ(view.rows().at(0).key, "t0-1-1");
  for (const char c : std::string("/EXAMPLE")) (void)view.press(letter(c));
  EXPECT_EQ(view.rows().size(), 1U);
  (void)view.press(kEscape);
  EXPECT_EQ(view.rows().size(), 3U);
  (void)view.press(letter('g'));
  (void)view.press(letter('b'));
  ASSERT_EQ(view.rows().size(), 2U);
  EXPECT_EQ(view.rows().at(0).key, "192.0.2.2");
  EXPECT_EQ(view.rows().at(0).flows, 2U);
  (void)view.press(kDown);
  (void)view.press(kEnter);
  ASSERT_EQ(view.rows().size(), 1U);
  EXPECT_EQ(view.rows().at(0).key, "t0-3-1");
  (void)view.press(kEscape);
  EXPECT_EQ(view.rows().size(), 2U);
}

TEST(View, asks_before_it_kills_and_takes_only_a_yes) {
  View view({});
  view.set_page(10);
  view.take(reading(1, {flow("t0-1-1", "192.0.2.2:1", 10)}));
  EXPECT_EQ(view.press(letter('k')).kind, Order::Kind::none);
  EXPECT_NE(screen(view).find("kill t0-1-1, 192.0.2.2:1"), std::string::npos);
  EXPECT_EQ(view.press(kEnter).kind, Order::Kind::none);
  EXPECT_EQ(view.mode(), Mode::table);
  (void)view.press(letter('k'));
  const Order order = view.press(letter('y'));
  EXPECT_EQ(order.kind, Order::Kind::kill);
  EXPECT_EQ(order.id, "t0-1-1");
}

TEST(View, keeps_the_cursor_on_its_flow) {
  View view({});
  view.set_page(10);
  view.take(reading(1, {flow("t0-1-1", "192.0.2.2:1", 30), flow("t0-2-1", "192.0.2.2:2", 20)}));
  (void)view.press(kDown);
  view.take(reading(
      2, {flow("t0-1-1", "192.0.2.2:1", 30), flow("t0-2-1", "192.0.2.2:2", 90), flow("t0-3-1", "192.0.2.2:3", 5)}));
  EXPECT_EQ(view.rows().at(view.cursor()).key, "t0-2-1");
}

TEST(Drawing, fits_every_size_in_every_mode) {
  for (const char* keys : {"", "h", "k", "/x", "g", "p"}) {
    View view({});
    view.take(reading(1, {flow("t0-1-1", "[2001:db8:1:2:3:4:5:6]:50000", 10, std::string(253, 'a'))}));
    view.take(reading(2, {flow("t0-1-1", "[2001:db8:1:2:3:4:5:6]:50000", 99, std::string(253, 'a'))}, 99));
    for (const char* key = keys; *key != '\0'; ++key) (void)view.press(letter(*key));
    for (std::size_t columns = 1; columns < 200; columns += 7) {
      for (std::size_t lines = 1; lines < 30; ++lines) {
        const Canvas canvas{.columns = columns, .lines = lines, .unicode = false};
        view.set_page(rows_that_fit(canvas));
        const auto drawn = draw(view, canvas);
        ASSERT_EQ(drawn.size(), lines);
        ASSERT_TRUE(std::ranges::all_of(drawn, [&](const Line& line) { return line.text.size() <= columns; }))
            << columns << "x" << lines << " " << keys;
      }
    }
  }
}

TEST(Drawing, sends_changed_lines_only) {
  const std::vector<Line> before{{"one"}, {"two"}, {"three"}};
  auto now = before;
  EXPECT_EQ(difference(before, now, false), "");
  now[1].text = "2";
  EXPECT_EQ(difference(before, now, false), "\x1b[2;1H\x1b[2K2");
  EXPECT_NE(difference({}, now, false).find("\x1b[2J"), std::string::npos);
}

TEST(Readings, hold_nothing_that_acts_on_a_terminal) {
  const auto status = ordered_json::parse(R"({"flows": {"tcp": 1}, "name": "a\u001b[2Jb"})");
  const auto counters = ordered_json::parse(R"({"counters": {"flows_total": 7, "rejected": 2}})");
  const auto flows =
      ordered_json::parse(R"({"flows": [{"id": "t0-1-1", "name": "\u202e\u009b\u00e4\n"}], "matched": 4})");
  const auto read = read_answers(status, counters, flows, {});
  ASSERT_TRUE(read);
  EXPECT_EQ(read->instance, "a?[2Jb");
  EXPECT_EQ(read->flows.at(0).name, "????");
  EXPECT_EQ(read->refusals, 2U);
  EXPECT_FALSE(read->all_flows);
  EXPECT_FALSE(read_answers(ordered_json::array(), 3, nullptr, {}));
}

TEST(Keys, are_understood_however_they_are_cut) {
  KeyReader reader;
  EXPECT_TRUE(reader.feed("\x1b").empty());
  EXPECT_TRUE(reader.feed("[").empty());
  EXPECT_EQ(reader.feed("Bq"), (std::vector<Key>{kDown, letter('q')}));
  EXPECT_EQ(reader.feed("\x1b[6~\x1bOA"), (std::vector<Key>{{KeyKind::page_down}, {KeyKind::up}}));
  EXPECT_TRUE(reader.feed("\x1b").empty());
  EXPECT_EQ(reader.time_out(), kEscape);
  EXPECT_FALSE(reader.time_out());
  EXPECT_TRUE(reader.feed("\x1b[" + std::string(1000, '1')).size() > 0U);  // no keyboard: its digits are keys again
}

TEST(Figures, are_short) {
  EXPECT_EQ(short_amount(0), "0");
  EXPECT_EQ(short_amount(1023), "1023");
  EXPECT_EQ(short_amount(1536), "1.5K");
  EXPECT_EQ(short_amount(1048575), "1.0M");
  EXPECT_EQ(short_rate(0.25), "0.2");
  EXPECT_EQ(short_time(7'800'000), "2h10m");
  EXPECT_EQ(fitted("[2001:db8:1::2]:50000", 12).size(), 12U);
  const std::vector<double> values{0, 1, 8};
  EXPECT_EQ(blocks(values, 8, 4, false), "  _#");
}

}  // namespace
}  // namespace limpid::top
