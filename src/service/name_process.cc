// Threads that each take a packet from the channel, ask, and send one back. They are started with the first question: most instances never have one.
#include "service/name_process.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "net/resolve.h"
#include "relay/name_channel.h"
#include "service/child_channel.h"

namespace limpid {
namespace {

/// False: nobody asks any more.
bool take_question(NameQuestion& question) {
  for (;;) {
    const ssize_t received = recv(kChildChannel, &question, sizeof question, 0);
    if (received < 0 && errno == EINTR) continue;
    return received == static_cast<ssize_t>(sizeof question);
  }
}

void answer(NameQuestion question) {
  question.host.back() = '\0';
  // With the dot behind it, it is the name that the client's server has, whatever search domains and host names this host has for itself.
  const std::string host = std::string(question.host.data()) + '.';
  const Family family = question.ipv6 != 0 ? Family::ipv6 : Family::ipv4;
  NameAnswer packet{.number = question.number};
  if (const auto found = resolve_host(host, family, /*numeric=*/false)) {
    for (const SocketAddress& each : *found) {
      if (each.family() != family || packet.count == packet.addresses.size()) continue;
      packet.addresses.at(packet.count++) = each.address.bytes();
    }
  }
  send(kChildChannel, &packet, sizeof packet, MSG_NOSIGNAL);
}

[[noreturn]] void answer_all() {
  NameQuestion question;
  while (take_question(question)) answer(question);
  _exit(0);
}

[[noreturn]] void look_names_up() {
  // A server that is silent must not keep a thread for half a minute. What the operator has set himself stays.
  // NOLINTNEXTLINE(concurrency-mt-unsafe): the first thread comes later
  setenv("RES_OPTIONS", "timeout:2 attempts:2", /*overwrite=*/0);
  NameQuestion first;
  if (!take_question(first)) _exit(0);
  for (unsigned i = 1; i < kNamesAtOnce; ++i) {
    try {
      std::thread(answer_all).detach();
    } catch (const std::system_error&) {
      break;  // with fewer, it only takes longer
    }
  }
  answer(first);
  answer_all();
}

}  // namespace

Result<NameProcess> NameProcess::start(const std::optional<UnprivilegedUser>& user) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return system_error(errno, "make a socket pair", "");
  UniqueFd ours(ends[0]);
  const UniqueFd theirs(ends[1]);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return system_error(errno, "start", "the process that looks names up");
  if (pid == 0) {
    // A unit without CAP_SETUID leaves it no other user: then it stays who it is.
    const bool begun = become_child(theirs.get(), parent, user, "limpid-names") ||
                       become_child(theirs.get(), parent, std::nullopt, "limpid-names");
    if (!begun) _exit(1);
    look_names_up();
  }
  return NameProcess(pid, std::move(ours));
}

NameProcess::NameProcess(NameProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), channel_(std::move(other.channel_)) {}

NameProcess::~NameProcess() {
  if (pid_ < 0) return;
  channel_.reset();
  end_child(pid_);
}

}  // namespace limpid
