// UpstreamGroups: all groups of a relay, by number, which is what a Dial carries. Written by one thread, the one that starts and reloads; read by all.
//
// Theory of operation. A reload puts other groups to work for flows that begin from then on, while those that have begun stay with theirs. So a group is never
// changed and never goes away: one that is new, or differs, gets a number of its own, and one that is as it was before, or as it was at any time before, keeps
// its number and its health. What a reload leaves behind is some kilobytes for each group that it changes, and kMost is the end of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "limpid/error.h"
#include "upstream/group.h"

namespace limpid {

/// What can be said of a group by itself: how many members, two of one name, members that cannot be reached `via` others.
[[nodiscard]] Status check_group(const UpstreamGroupOptions& options);
/// What can be said of the group through which it is reached.
[[nodiscard]] Status check_via(const UpstreamGroupOptions& options, const std::vector<UpstreamGroupOptions>& groups);
/// What can be said of all: two of one name, a `via` that is not there or has one itself.
[[nodiscard]] Status check_groups(const std::vector<UpstreamGroupOptions>& groups);

/// Number 0 means no group.
class UpstreamGroups {
 public:
  static constexpr std::size_t kMost = 2048;

  /// These are at work from now on, and no others. Nothing happens if there is an error.
  [[nodiscard]] Status put_to_work(std::vector<UpstreamGroupOptions> groups);
  /// Whether so many more can get numbers.
  [[nodiscard]] Status room_for(std::size_t groups) const;
  /// Numbers of those at work, in the order in which they were given. Any thread may ask, none on the hot path.
  [[nodiscard]] std::vector<std::uint16_t> at_work() const;
  /// Among those at work; 0: there is none of this name.
  [[nodiscard]] std::uint16_t find(std::string_view name) const;
  /// A number that put_to_work() has given at any time.
  [[nodiscard]] UpstreamGroup& at(std::uint16_t number) const noexcept { return *groups_[number - 1U]; }

 private:
  [[nodiscard]] std::uint16_t find_same(const UpstreamGroupOptions& options, const UpstreamGroup* via) const noexcept;

  /// Filled from the front; an entry that a number was given for is never written again, so readers need no lock.
  std::array<std::unique_ptr<UpstreamGroup>, kMost> groups_;
  std::size_t count_ = 0;
  mutable std::mutex mutex_;
  std::vector<std::uint16_t> at_work_;  ///< under the mutex
};

}  // namespace limpid
