// The netlink socket itself: requests, acknowledgements, dumps, and the kernel's own words when it refuses. What the
// messages mean is in the netlink_*.cc files and in socket_diag.cc.
//
// Theory of operation: one request at a time. The kernel acts on a request while it is being sent, so its answer waits
// in the socket's buffer when send returns; a dump goes on with each read. The socket is therefore a blocking one:
// there is nothing to wait for but the kernel itself. Every request has a new sequence number, and answers to older
// ones (of an attempt that was given up) are passed over.
#include "net/netlink_socket.h"

#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <system_error>
#include <utility>

#include "net/netlink_message.h"

namespace limpid {
namespace {

// The kernel fills up to 32 KiB in one read of a dump (NLMSG_GOODSIZE and netlink_dump() in net/netlink/af_netlink.c).
constexpr std::size_t kReceiveBytes = 32UL * 1024;

// A dump is repeated when the tables change under it. On a router that learns routes that may happen several times.
constexpr int kDumpAttempts = 32;

using ReceiveBuffer = std::array<std::byte, kReceiveBytes>;

// The kernel's explanation (NLMSGERR_ATTR_MSG), which stands behind `skip` bytes of payload; empty where it gave none.
std::string extended_acknowledgement(const nlmsghdr& message, std::size_t skip) {
  if ((message.nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
  if (mnl_nlmsg_get_payload_len(&message) < skip) return {};
  return netlink::Attributes<NLMSGERR_ATTR_MSG>(message, skip).text(NLMSGERR_ATTR_MSG);
}

std::unexpected<Error> kernel_error(int code, std::string_view operation, std::string_view object,
                                    const std::string& explanation) {
  auto error = system_error(code, operation, object, code == EPERM ? "needs CAP_NET_ADMIN" : "");
  if (!explanation.empty()) error.error().cause = explanation + " (" + error.error().cause + ")";
  return error;
}

// What NLMSG_ERROR says: success when it is an acknowledgement.
Status read_acknowledgement(const nlmsghdr& message, std::string_view operation, std::string_view object) {
  if (mnl_nlmsg_get_payload_len(&message) < sizeof(nlmsgerr)) return failure(operation, object, "truncated answer");
  const auto* error = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(&message));
  if (error->error == 0) return {};
  // Without NLM_F_CAPPED the whole request is repeated before the attributes, not only its header.
  std::size_t skip = sizeof(nlmsgerr);
  if ((message.nlmsg_flags & NLM_F_CAPPED) == 0) skip += error->msg.nlmsg_len - sizeof(nlmsghdr);
  return kernel_error(-error->error, operation, object, extended_acknowledgement(message, skip));
}

// What NLMSG_DONE says: a dump that failed halfway has its error there.
Status read_done(const nlmsghdr& message, std::string_view operation) {
  if (mnl_nlmsg_get_payload_len(&message) < sizeof(int)) return {};
  int code = 0;
  std::memcpy(&code, mnl_nlmsg_get_payload(&message), sizeof code);
  if (code >= 0) return {};
  return kernel_error(-code, operation, "", extended_acknowledgement(message, sizeof code));
}

enum class DumpState : std::uint8_t { going_on, done };

Result<DumpState> read_dump_message(const nlmsghdr& message, std::string_view operation,
                                    const std::function<void(const nlmsghdr&)>& each) {
  if (message.nlmsg_type == NLMSG_ERROR) {
    if (auto outcome = read_acknowledgement(message, operation, ""); !outcome) return std::unexpected(outcome.error());
  } else if (message.nlmsg_type == NLMSG_DONE) {
    if (auto outcome = read_done(message, operation); !outcome) return std::unexpected(outcome.error());
    return DumpState::done;
  } else if (message.nlmsg_type >= NLMSG_MIN_TYPE) {
    each(message);
  }
  return DumpState::going_on;
}

}  // namespace

void NetlinkSocket::Closer::operator()(mnl_socket* socket) const noexcept {
  mnl_socket_close(socket);
}

NetlinkSocket::NetlinkSocket(std::unique_ptr<mnl_socket, Closer> socket) noexcept : socket_(std::move(socket)) {}

Result<NetlinkSocket> NetlinkSocket::open(int protocol) {
  std::unique_ptr<mnl_socket, Closer> socket(mnl_socket_open2(protocol, SOCK_CLOEXEC));
  if (!socket) return system_error(errno, "open", "netlink socket");
  if (mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0) return system_error(errno, "bind", "netlink socket");
  // Both are conveniences: without them errors are errno texts only.
  int on = 1;
  (void)mnl_socket_setsockopt(socket.get(), NETLINK_EXT_ACK, &on, sizeof on);
  (void)mnl_socket_setsockopt(socket.get(), NETLINK_CAP_ACK, &on, sizeof on);
  return NetlinkSocket(std::move(socket));
}

Status NetlinkSocket::send(nlmsghdr& request, std::string_view operation, std::string_view object) {
  request.nlmsg_seq = ++sequence_;
  if (mnl_socket_sendto(socket_.get(), &request, request.nlmsg_len) < 0) return system_error(errno, operation, object);
  return {};
}

Status NetlinkSocket::change(nlmsghdr& request, std::string_view operation, std::string_view object) {
  return ask(request, operation, object, [](const nlmsghdr&) {});
}

Status NetlinkSocket::ask(nlmsghdr& request, std::string_view operation, std::string_view object,
                          const std::function<void(const nlmsghdr&)>& each) {
  request.nlmsg_flags |= NLM_F_ACK;
  if (auto sent = send(request, operation, object); !sent) return sent;
  alignas(nlmsghdr) ReceiveBuffer buffer;
  for (;;) {
    const ssize_t received = mnl_socket_recvfrom(socket_.get(), buffer.data(), buffer.size());
    if (received < 0 && errno == EINTR) continue;
    if (received < 0) return system_error(errno, operation, object);
    int left = static_cast<int>(received);
    for (const auto* message = reinterpret_cast<const nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(message, left);
         message = mnl_nlmsg_next(message, &left)) {
      if (message->nlmsg_seq != sequence_) continue;
      if (message->nlmsg_type == NLMSG_ERROR) return read_acknowledgement(*message, operation, object);
      if (message->nlmsg_type >= NLMSG_MIN_TYPE) each(*message);
    }
  }
}

Status NetlinkSocket::dump(nlmsghdr& request, std::string_view operation, const std::function<void()>& restart,
                           const std::function<void(const nlmsghdr&)>& each) {
  request.nlmsg_flags |= NLM_F_DUMP;
  alignas(nlmsghdr) ReceiveBuffer buffer;
  for (int attempt = 0; attempt < kDumpAttempts; ++attempt) {
    restart();
    if (auto sent = send(request, operation, ""); !sent) return sent;
    bool interrupted = false;
    for (auto state = DumpState::going_on; state != DumpState::done;) {
      const ssize_t received = mnl_socket_recvfrom(socket_.get(), buffer.data(), buffer.size());
      if (received < 0 && errno == EINTR) continue;
      if (received < 0) return system_error(errno, operation, "");
      int left = static_cast<int>(received);
      for (const auto* message = reinterpret_cast<const nlmsghdr*>(buffer.data()); mnl_nlmsg_ok(message, left);
           message = mnl_nlmsg_next(message, &left)) {
        if (message->nlmsg_seq != sequence_) continue;
        interrupted = interrupted || (message->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
        auto next = read_dump_message(*message, operation, each);
        if (!next) return std::unexpected(next.error());
        state = *next;
      }
    }
    if (!interrupted) return {};
  }
  return failure(operation, "", "it changed during each of " + std::to_string(kDumpAttempts) + " attempts to read it",
                 "try again when the network is calmer");
}

}  // namespace limpid
