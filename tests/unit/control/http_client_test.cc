// What is said of instances that end before they have answered.
#include "control/http_client.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <thread>

#include "limpid/unique_fd.h"
#include "tests/unit/control/temporary_folder.h"

namespace limpid {
namespace {

constexpr std::chrono::seconds kPatience{10};

/// Takes one connection, does with it what it is told, and closes it.
class Peer {
 public:
  Peer(const std::string& path, std::function<void(int)> serve)
      : listener_(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_.get(), 1), 0);
    thread_ = std::jthread([this, serve = std::move(serve)] {
      const UniqueFd connection(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      serve(connection.get());
    });
  }

 private:
  UniqueFd listener_;
  std::jthread thread_;
};

void read_request(int fd) {
  std::array<char, 4096> buffer{};
  EXPECT_GT(recv(fd, buffer.data(), buffer.size(), 0), 0);
}

void expect_ended_early(const Result<HttpAnswer>& answer) {
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().cause, "the connection ended before the answer");
  EXPECT_NE(answer.error().remedy.find("limpid status"), std::string::npos);
}

TEST(HttpClient, an_end_before_the_answer_is_no_strange_answer) {
  const TemporaryFolder folder;
  const std::string path = folder.socket();
  const Peer peer(path, read_request);
  expect_ended_early(ask_control(path, "POST", "/v1/upgrade", {}, kPatience));
}

TEST(HttpClient, an_end_before_the_question_was_read_is_the_same) {
  const TemporaryFolder folder;
  const std::string path = folder.socket();
  // Closed with something unread, a Unix socket resets its peer.
  const Peer peer(path, [](int fd) {
    std::array<char, 1> first{};
    EXPECT_EQ(recv(fd, first.data(), first.size(), 0), 1);
  });
  expect_ended_early(ask_control(path, "POST", "/v1/upgrade", {}, kPatience));
}

TEST(HttpClient, another_protocol_is_a_strange_answer) {
  const TemporaryFolder folder;
  const std::string path = folder.socket();
  const Peer peer(path, [](int fd) {
    read_request(fd);
    EXPECT_EQ(send(fd, "SSH-2.0\r\n", 9, MSG_NOSIGNAL), 9);
  });
  const auto answer = ask_control(path, "GET", "/v1/status", {}, kPatience);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().cause, "its answer is no HTTP");
}

}  // namespace
}  // namespace limpid
