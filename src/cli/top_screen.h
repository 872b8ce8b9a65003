// The loop of `limpid top` on a terminal: keys, signals, answers and the clock in, one screen out.
#pragma once

#include <chrono>

#include "cli/top_feed.h"
#include "top/view.h"

namespace limpid {

struct TopScreen {
  TopSource source;
  top::Choice choice;
  std::chrono::milliseconds interval{1000};
  bool colour = false;
  bool unicode = false;
};

/// Until the user or a signal ends it; standard input and output must be terminals, and are as they were when it returns. The first reading
/// must succeed; later ones are tried again and again.
[[nodiscard]] Status show_live(const TopScreen& screen);

}  // namespace limpid
