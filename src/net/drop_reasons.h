// Why the kernel threw a packet away: the reasons of tracepoint skb:kfree_skb (kernel 5.17), for packets that the calling thread sends
// through the network stack. Evidence beside nftables' traces, which say nothing between two hooks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// The tracepoint's format file, as far as it matters here.
struct DropFormat {
  std::uint64_t id = 0;
  std::size_t reason_offset = 0;
  std::size_t protocol_offset = 0;
  std::map<std::uint32_t, std::string> names;  ///< 16 → "IP_RPFILTER"
};
/// Empty when it is not such a file.
[[nodiscard]] std::optional<DropFormat> parse_drop_format(std::string_view text);

/// Listens from open() on. Needs CAP_SYS_ADMIN and CAP_PERFMON in the first user namespace.
class DropWatch {
 public:
  [[nodiscard]] static Result<DropWatch> open();
  DropWatch(DropWatch&& other) noexcept;
  DropWatch& operator=(DropWatch&&) = delete;
  DropWatch(const DropWatch&) = delete;
  DropWatch& operator=(const DropWatch&) = delete;
  ~DropWatch();

  /// The names of the reasons so far, in order, of packets with this EtherType: "IP_RPFILTER". A name that the kernel did not
  /// tell is a number.
  [[nodiscard]] std::vector<std::string> take(std::uint16_t ether_type);

 private:
  DropWatch(UniqueFd event, void* ring, DropFormat format);
  UniqueFd event_;
  void* ring_ = nullptr;
  DropFormat format_;
};

}  // namespace limpid
