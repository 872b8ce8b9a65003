// Facts about requests that nobody answers: they end with a reason, and leave their connections to others.
#include "control/http_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "control/control_socket.h"
#include "control/http_client.h"
#include "tests/unit/control/temporary_folder.h"

namespace limpid {
namespace {

/// Answers /now, and keeps the replies of all others.
struct Replies {
  std::mutex mutex;
  std::vector<HttpReply> kept;
};

std::unique_ptr<HttpServer> serve(ControlSocket& socket, Replies& replies, unsigned most_connections) {
  std::vector<HttpDoor> doors;
  doors.push_back({.listener = socket.take_listener(),
                   .handler =
                       [&replies](const HttpRequest& request, const HttpReply& reply) {
                         if (request.path == "/now") return reply.send(HttpResponse{.body = "{}"});
                         const std::lock_guard lock(replies.mutex);
                         replies.kept.push_back(reply);
                       },
                   .most_connections = most_connections});
  auto server = HttpServer::start(std::move(doors), std::chrono::milliseconds{200});
  EXPECT_TRUE(server);
  return server ? std::move(*server) : nullptr;
}

UniqueFd begin_request(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): what connect(2) asks for
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  constexpr std::string_view kRequest = "GET /never HTTP/1.1\r\nHost: limpid\r\n\r\n";
  EXPECT_EQ(send(fd.get(), kRequest.data(), kRequest.size(), MSG_NOSIGNAL), static_cast<ssize_t>(kRequest.size()));
  return fd;
}

TEST(HttpServer, a_request_that_nobody_answers_ends_with_a_reason) {
  const TemporaryFolder folder;
  Replies replies;
  auto socket = ControlSocket::open(folder.socket());
  ASSERT_TRUE(socket);
  const auto server = serve(*socket, replies, 4);
  const auto answer = ask_control(folder.socket(), "GET", "/never", {}, std::chrono::seconds{20});
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_EQ(answer->status, 503U);
  EXPECT_NE(answer->body.find("too busy"), std::string::npos) << answer->body;
  const std::lock_guard lock(replies.mutex);
  ASSERT_EQ(replies.kept.size(), 1U);
  replies.kept.front().send(HttpResponse{.body = "{}"});  // too late, which does nothing
}

TEST(HttpServer, connections_that_wait_for_ever_do_not_keep_others_out) {
  const TemporaryFolder folder;
  Replies replies;
  auto socket = ControlSocket::open(folder.socket());
  ASSERT_TRUE(socket);
  const auto server = serve(*socket, replies, 2);
  // Of HTTP/1.1, so that they stay connected, and are closed by the patience of the server alone.
  const std::array<UniqueFd, 2> stuck{begin_request(folder.socket()), begin_request(folder.socket())};
  for (const UniqueFd& one : stuck) {
    std::array<char, 12> begin{};
    ASSERT_EQ(recv(one.get(), begin.data(), begin.size(), MSG_WAITALL), static_cast<ssize_t>(begin.size()));
    EXPECT_EQ(std::string_view(begin.data(), begin.size()), "HTTP/1.1 503");
    shutdown(one.get(), SHUT_RDWR);
  }
  const auto answer = ask_control(folder.socket(), "GET", "/now", {}, std::chrono::seconds{20});
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_EQ(answer->status, 200U);
}

}  // namespace
}  // namespace limpid
