// StatePackets: puts records of one kind after the other into packets that a DescriptorChannel takes, with the descriptors that belong to them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/record_codec.h"
#include "net/descriptor_channel.h"
#include "relay/flow_freeze.h"

namespace limpid {

class StatePackets {
 public:
  /// `into` is appended to, and outlives it.
  StatePackets(std::vector<HandoverPacket>& into, HandoverPart part, std::uint16_t worker) noexcept
      : into_(into), part_(part), worker_(worker) {}

  /// `write(RecordWriter&, std::vector<int>& descriptors)` writes one record, of at most kMostRecordBytes and kMostOfRecord descriptors.
  template <class Write>
  void add(Write write) {
    if (!open_ || into_.back().bytes.size() > kFullBytes ||
        into_.back().descriptors.size() > DescriptorChannel::kMostDescriptors - kMostOfRecord) {
      into_.emplace_back();
      RecordWriter head(into_.back().bytes);
      head.value(part_);
      head.number(worker_);
      open_ = true;
    }
    RecordWriter writer(into_.back().bytes);
    write(writer, into_.back().descriptors);
  }

  /// A packet with so much in it is sent.
  static constexpr std::size_t kFullBytes = std::size_t{24} << 10U;
  /// The largest datagram, and what is said of it.
  static constexpr std::size_t kMostRecordBytes = DescriptorChannel::kMostBytes - kFullBytes - 1024;
  static constexpr std::size_t kMostOfRecord = 6;

 private:
  std::vector<HandoverPacket>& into_;
  HandoverPart part_;
  std::uint16_t worker_;
  bool open_ = false;
};

}  // namespace limpid
