// UpstreamRoute: what a flow has besides when it goes through a group of upstreams: which of them it is at, which it has tried, and the
// handshake while there is one. Flows without upstream have none.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "policy/decision.h"
#include "relay/flow_record.h"
#include "upstream/group.h"
#include "upstream/handshake.h"

namespace limpid {

struct UpstreamRoute {
  UpstreamGroup& group;  ///< outlives the flow. Where it is reached via another group, that one's members are the hops.
  Dial wanted;           ///< where the flow goes to, through whomever
  std::string name;      ///< of that place, if it goes by name
  UpstreamGroup::Tried tried = 0;
  bool direct = false;                               ///< none is left, so it goes without
  std::optional<unsigned> member = {};               ///< the one that it is at, or was at last; empty: none yet
  const UpstreamServer* server = nullptr;            ///< where that one is; nullptr: at the flow's own destination
  UpstreamGroup::Tried hops_tried = 0;               ///< on the way to this member
  std::optional<unsigned> hop = {};                  ///< the latest of them
  bool at_hop = false;                               ///< it is the hop that is dialled, or shaken hands with
  std::optional<Handshake> handshake = {};           ///< while it is under way
  std::chrono::steady_clock::time_point began = {};  ///< to dial this member
  std::uint64_t connected_us = 0;                    ///< what its connection took
  FlowEnd failure = FlowEnd::upstream_down;          ///< of the latest one
  bool destination_failed = false;                   ///< that was not the upstream's fault

  /// As the access log has it; lives as long as the group.
  [[nodiscard]] std::string_view shown() const noexcept {
    if (direct || !member) return direct ? std::string_view("direct") : std::string_view();
    return group.member(*member).name;
  }
};

}  // namespace limpid
