// Two bounds: not before a burst is over, and not more often than somebody wants to read it. See refusal_notice.h.
#include "service/refusal_notice.h"

#include <algorithm>
#include <utility>

namespace limpid {

std::uint64_t RefusalNotice::due(std::uint64_t refused, Clock::time_point now, bool last) noexcept {
  if (refused == told_) return 0;
  if (!first_) first_ = now;
  if (!last && now < std::max(*first_ + kCollect, next_)) return 0;
  first_.reset();
  next_ = now + kEvery;
  return refused - std::exchange(told_, refused);
}

}  // namespace limpid
