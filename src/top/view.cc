// The cursor follows its flow, not its line: it stays on it however the table is sorted anew.
#include "top/view.h"

#include <algorithm>
#include <utility>

namespace limpid::top {
namespace {

constexpr std::size_t kLongestFilter = 64;

template <typename Enum>
Enum next(Enum value, Enum last) {
  return value == last ? Enum{} : static_cast<Enum>(static_cast<std::uint8_t>(value) + 1);
}

}  // namespace

void View::take(Reading reading) {
  trouble_.clear();
  meter_.take(std::move(reading));
  if (chosen_) {
    const auto found =
        std::ranges::find(meter_.flows(), chosen_->flow.id, [](const auto& each) { return each.flow.id; });
    chosen_is_over_ = found == meter_.flows().end();
    if (!chosen_is_over_) {
      chosen_ = *found;
    } else {
      chosen_->up = chosen_->down = 0;
    }
  }
  refresh();
}

void View::refresh() {
  const std::string on = cursor_ < rows_.size() ? rows_[cursor_].key : std::string();
  rows_ = table_rows(meter_.flows(), choice_);
  // The first line is a place of its own: who has not moved sees what is on top.
  if (cursor_ != 0) {
    const auto found = std::ranges::find(rows_, on, &Row::key);
    if (found != rows_.end()) cursor_ = static_cast<std::size_t>(found - rows_.begin());
  }
  keep_in_sight();
}

void View::set_page(std::size_t rows) {
  page_ = std::max<std::size_t>(rows, 1);
  keep_in_sight();
}

void View::keep_in_sight() {
  cursor_ = rows_.empty() ? 0 : std::min(cursor_, rows_.size() - 1);
  first_ = std::min(first_, cursor_);
  if (cursor_ >= first_ + page_) first_ = cursor_ - page_ + 1;
  if (rows_.size() <= page_) first_ = 0;
}

void View::move(std::ptrdiff_t by) {
  const auto last = static_cast<std::ptrdiff_t>(rows_.size()) - 1;
  cursor_ =
      static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, std::min(static_cast<std::ptrdiff_t>(cursor_) + by, last)));
  keep_in_sight();
}

Order View::press(Key key) {
  message_.clear();
  if (key.kind == KeyKind::redraw) return {.kind = Order::Kind::redraw, .id = {}};
  switch (mode_) {
    case Mode::filter: press_in_filter(key); return {};
    case Mode::confirm: return press_in_question(key);
    case Mode::help:
      if (key == Key{KeyKind::character, 'q'}) return {.kind = Order::Kind::quit, .id = {}};
      mode_ = before_;
      return {};
    case Mode::table:
    case Mode::flow: return press_in_table(key);
  }
  return {};
}

Order View::press_in_table(Key key) {
  const auto page = static_cast<std::ptrdiff_t>(page_);
  const auto all = static_cast<std::ptrdiff_t>(rows_.size());
  const bool in_table = mode_ == Mode::table;
  switch (key.kind) {
    case KeyKind::character: return press_letter(key.character);
    case KeyKind::enter:
      if (in_table) enter();
      break;
    case KeyKind::escape:
    case KeyKind::backspace: leave(); break;
    case KeyKind::up:
      if (in_table) move(-1);
      break;
    case KeyKind::down:
      if (in_table) move(1);
      break;
    case KeyKind::page_up:
      if (in_table) move(-page);
      break;
    case KeyKind::page_down:
      if (in_table) move(page);
      break;
    case KeyKind::home:
      if (in_table) move(-all);
      break;
    case KeyKind::end:
      if (in_table) move(all);
      break;
    case KeyKind::clear:
    case KeyKind::redraw: break;
  }
  return {};
}

Order View::press_letter(char letter) {
  switch (letter) {
    case 'q': return {.kind = Order::Kind::quit, .id = {}};
    case 'h':
    case '?': before_ = std::exchange(mode_, Mode::help); return {};
    case 'p':
    case ' ': paused_ = !paused_; return {};
    case 'k': ask_to_kill(); return {};
    default: break;
  }
  if (mode_ != Mode::table) return {};
  switch (letter) {
    case 's': choice_.sort = next(choice_.sort, Sort::destination); break;
    case 'r': choice_.sort = Sort::rate; break;
    case 'b': choice_.sort = Sort::bytes; break;
    case 'a': choice_.sort = Sort::age; break;
    case 'c': choice_.sort = Sort::client; break;
    case 'd': choice_.sort = Sort::destination; break;
    case 'g':
      choice_.within = Group::none;
      choice_.group = next(choice_.group, Group::upstream);
      cursor_ = first_ = 0;
      break;
    case '/':
      filter_before_ = choice_.filter;
      mode_ = Mode::filter;
      return {};
    default: message_ = "h: help"; return {};
  }
  refresh();
  return {};
}

void View::press_in_filter(Key key) {
  switch (key.kind) {
    case KeyKind::character:
      if (choice_.filter.size() < kLongestFilter) choice_.filter += key.character;
      break;
    case KeyKind::backspace:
      if (!choice_.filter.empty()) choice_.filter.pop_back();
      break;
    case KeyKind::clear: choice_.filter.clear(); break;
    case KeyKind::escape:
      choice_.filter = filter_before_;
      mode_ = Mode::table;
      break;
    case KeyKind::enter: mode_ = Mode::table; break;
    case KeyKind::up:
    case KeyKind::down:
    case KeyKind::page_up:
    case KeyKind::page_down:
    case KeyKind::home:
    case KeyKind::end:
    case KeyKind::redraw: break;
  }
  refresh();
}

Order View::press_in_question(Key key) {
  mode_ = before_;
  Order order;
  if (key == Key{KeyKind::character, 'y'} && chosen_) order = {.kind = Order::Kind::kill, .id = chosen_->flow.id};
  if (order.kind == Order::Kind::none) message_ = "not killed";
  if (mode_ == Mode::table) chosen_.reset();
  return order;
}

void View::enter() {
  if (cursor_ >= rows_.size()) return;
  const Row& row = rows_[cursor_];
  if (choice_.group == Group::none) {
    chosen_ = row.rated;
    chosen_is_over_ = false;
    mode_ = Mode::flow;
    return;
  }
  choice_.within_key = row.key;
  choice_.within = std::exchange(choice_.group, Group::none);
  cursor_ = first_ = 0;
  refresh();
}

void View::leave() {
  if (mode_ == Mode::flow) {
    mode_ = Mode::table;
    chosen_.reset();
  } else if (choice_.within != Group::none) {
    choice_.group = std::exchange(choice_.within, Group::none);
    choice_.within_key.clear();
  } else {
    choice_.filter.clear();
  }
  refresh();
}

void View::ask_to_kill() {
  if (mode_ == Mode::table) {
    if (cursor_ >= rows_.size()) return;
    if (choice_.group != Group::none) {
      message_ = "a group: go into it (Enter), and choose a flow";
      return;
    }
    chosen_ = rows_[cursor_].rated;
    chosen_is_over_ = false;
  }
  before_ = std::exchange(mode_, Mode::confirm);
}

}  // namespace limpid::top
