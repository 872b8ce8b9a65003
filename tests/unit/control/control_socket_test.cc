// The socket's place: who comes first has it, what was left behind is taken away, and strangers cannot keep anybody from it.
#include "control/control_socket.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/unit/control/temporary_folder.h"

namespace limpid {
namespace {

/// As kill -9 leaves it: a file, and nobody behind it.
void leave_socket(const std::string& path) {
  const UniqueFd left(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): what bind(2) asks for
  ASSERT_EQ(::bind(left.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
}

std::vector<std::string> files_beside(const std::string& path) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(std::filesystem::path(path).parent_path()))
    names.push_back(entry.path().filename());
  return names;
}

TEST(ControlSocket, one_that_was_left_behind_is_removed_and_no_other) {
  const TemporaryFolder folder;
  const std::string path = folder.socket();
  EXPECT_FALSE(remove_stale_socket(path).value()) << "there is none";
  {
    auto socket = ControlSocket::open(path);
    ASSERT_TRUE(socket);
    EXPECT_FALSE(remove_stale_socket(path).value()) << "somebody listens";
    const UniqueFd listener = socket->take_listener();
    // Its end without the end of the object: what kill -9 leaves.
    EXPECT_FALSE(is_stale_socket(path));
  }
  leave_socket(path);
  EXPECT_TRUE(is_stale_socket(path));
  EXPECT_TRUE(remove_stale_socket(path).value());
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

TEST(ControlSocket, nothing_but_the_socket_lies_in_its_folder) {
  const TemporaryFolder folder;
  {
    const auto socket = ControlSocket::open(folder.socket());
    ASSERT_TRUE(socket);
    EXPECT_EQ(files_beside(folder.socket()), std::vector<std::string>{"ctl.sock"});
    EXPECT_FALSE(ControlSocket::open(folder.socket())) << "somebody listens";
  }
  EXPECT_TRUE(files_beside(folder.socket()).empty());
}

TEST(ControlSocket, of_several_that_find_a_stale_one_exactly_one_has_it) {
  const TemporaryFolder folder;
  for (int round = 0; round < 50; ++round) {
    leave_socket(folder.socket());
    std::atomic<int> at_work{0};
    std::atomic<int> opened{0};
    std::vector<std::thread> all;
    for (int i = 0; i < 4; ++i) {
      all.emplace_back([&] {
        const auto socket = ControlSocket::open(folder.socket());
        if (socket) ++opened;
        // Everybody's answer is there before the first one gives the place up.
        ++at_work;
        while (at_work.load() != 4) std::this_thread::yield();
      });
    }
    for (auto& each : all) each.join();
    EXPECT_EQ(opened.load(), 1) << "round " << round;
    EXPECT_TRUE(files_beside(folder.socket()).empty());
  }
}

TEST(ControlSocket, who_may_only_read_the_folder_keeps_nobody_from_it) {
  const TemporaryFolder folder;
  const std::string directory = std::filesystem::path(folder.socket()).parent_path();
  const UniqueFd stranger(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(flock(stranger.get(), LOCK_EX | LOCK_NB), 0);
  const auto start = std::chrono::steady_clock::now();
  EXPECT_TRUE(ControlSocket::open(folder.socket()));
  // The patience with one who holds the lock is a second.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(700));
}

TEST(ControlSocket, a_lock_that_was_left_behind_is_taken_over) {
  const TemporaryFolder folder;
  const std::string lock = std::filesystem::path(folder.socket()).parent_path() / ".lock";
  const UniqueFd left(::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR));
  ASSERT_TRUE(left.valid());
  EXPECT_TRUE(ControlSocket::open(folder.socket()));
  EXPECT_TRUE(files_beside(folder.socket()).empty());
}

}  // namespace
}  // namespace limpid
