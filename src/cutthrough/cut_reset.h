// Ends flows from here: a reset to either end, as if it came from the other.
#pragma once

#include <cstdint>
#include <optional>

#include "bpf/cut_through_layout.h"
#include "limpid/datagram.h"
#include "limpid/error.h"

namespace limpid {

/// Any thread may send.
class ResetSender {
 public:
  ResetSender() = default;
  [[nodiscard]] static Result<ResetSender> open(std::uint32_t mark);
  void send(const limpid_cut_flow& flow);

 private:
  std::optional<RawSender> ipv4_;
  std::optional<RawSender> ipv6_;
};

}  // namespace limpid
