// An open netlink socket of any protocol: one request at a time, answered before the call returns. For the files of this room
// that speak rtnetlink or sock_diag; what the messages mean is theirs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "limpid/error.h"

struct mnl_socket;
struct nlmsghdr;

namespace limpid {

/// Belongs to the network namespace in which it was opened. One thread at a time.
class NetlinkSocket {
 public:
  /// `protocol`: NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER.
  [[nodiscard]] static Result<NetlinkSocket> open(int protocol);

  /// Sends a request and waits for its acknowledgement.
  [[nodiscard]] Status change(nlmsghdr& request, std::string_view operation, std::string_view object);
  /// Sends a request that has one answer, hands that to `each`, and waits for the acknowledgement behind it.
  [[nodiscard]] Status ask(nlmsghdr& request, std::string_view operation, std::string_view object,
                           const std::function<void(const nlmsghdr&)>& each);
  /// Sends a dump request and hands each answer to `each`. Calls `restart` before every attempt: the kernel says when a
  /// change made a dump inconsistent, and then it is taken again.
  [[nodiscard]] Status dump(nlmsghdr& request, std::string_view operation, const std::function<void()>& restart,
                            const std::function<void(const nlmsghdr&)>& each);

 private:
  struct Closer {
    void operator()(mnl_socket* socket) const noexcept;
  };
  explicit NetlinkSocket(std::unique_ptr<mnl_socket, Closer> socket) noexcept;

  [[nodiscard]] Status send(nlmsghdr& request, std::string_view operation, std::string_view object);

  std::unique_ptr<mnl_socket, Closer> socket_;
  std::uint32_t sequence_ = 0;
};

}  // namespace limpid
