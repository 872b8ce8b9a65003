// What the live view shows and what keys do to it: answers and keys in, orders out. Knows no terminal and no socket; drawing.h makes lines of
// it. Owned by `limpid top`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "top/keys.h"
#include "top/rates.h"
#include "top/rows.h"

namespace limpid::top {

enum class Mode : std::uint8_t { table, flow, help, filter, confirm };

/// What a key asks the program for; everything else has been done when it is returned.
struct Order {
  enum class Kind : std::uint8_t { none, quit, kill, redraw };
  Kind kind = Kind::none;
  std::string id;  ///< whom to kill
};

class View {
 public:
  explicit View(Choice choice) : choice_(std::move(choice)) { refresh(); }

  void take(Reading reading);
  /// The instance did not answer: said until it does.
  void lose(std::string why) { trouble_ = std::move(why); }
  /// Said until the next key.
  void say(std::string message) { message_ = std::move(message); }
  [[nodiscard]] Order press(Key key);
  /// How many rows of the table fit, for paging and so that the cursor stays in sight.
  void set_page(std::size_t rows);

  [[nodiscard]] const RateMeter& meter() const noexcept { return meter_; }
  [[nodiscard]] const Choice& choice() const noexcept { return choice_; }
  [[nodiscard]] Mode mode() const noexcept { return mode_; }
  [[nodiscard]] bool paused() const noexcept { return paused_; }
  [[nodiscard]] const std::vector<Row>& rows() const noexcept { return rows_; }
  [[nodiscard]] std::size_t cursor() const noexcept { return cursor_; }
  [[nodiscard]] std::size_t first() const noexcept { return first_; }
  [[nodiscard]] const std::string& message() const noexcept { return message_; }
  [[nodiscard]] const std::string& trouble() const noexcept { return trouble_; }
  /// The flow that is looked at, or about to be killed, as it was seen last.
  [[nodiscard]] const std::optional<RatedFlow>& chosen() const noexcept { return chosen_; }
  [[nodiscard]] bool chosen_is_over() const noexcept { return chosen_is_over_; }

 private:
  void refresh();  ///< the rows, after anything that they depend on
  void move(std::ptrdiff_t by);
  void keep_in_sight();
  Order press_in_table(Key key);
  Order press_letter(char letter);
  void press_in_filter(Key key);
  Order press_in_question(Key key);
  void enter();
  void leave();
  void ask_to_kill();

  Choice choice_;
  RateMeter meter_;
  std::vector<Row> rows_;
  std::size_t cursor_ = 0;
  std::size_t first_ = 0;
  std::size_t page_ = 1;
  Mode mode_ = Mode::table;
  Mode before_ = Mode::table;  ///< where a question or the help came from
  bool paused_ = false;
  std::string filter_before_;
  std::string message_;
  std::string trouble_;
  std::optional<RatedFlow> chosen_;
  bool chosen_is_over_ = false;
};

}  // namespace limpid::top
