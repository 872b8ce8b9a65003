// Entries for the journal, as a socket of its protocol receives them.
#include "service/journal.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <filesystem>

namespace limpid {
namespace {

/// What listens where journald would.
class Receiver {
 public:
  explicit Receiver(const std::string& path) : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    ::unlink(path.c_str());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  std::string next() const {
    std::array<char, 65536> buffer{};
    const ssize_t length = recv(fd_.get(), buffer.data(), buffer.size(), 0);
    return length < 0 ? std::string("nothing") : std::string(buffer.data(), static_cast<std::size_t>(length));
  }

 private:
  UniqueFd fd_;
};

TEST(JournalEntry, has_each_field_under_its_name) {
  const std::array fields{field("orig_dst", "192.0.2.1:80"), field("bytes_up", std::uint64_t{7})};
  EXPECT_EQ(format_journal_entry("a=1 b=2", fields),
            "MESSAGE=a=1 b=2\nPRIORITY=6\nSYSLOG_IDENTIFIER=limpid\nLIMPID_ORIG_DST=192.0.2.1:80\nLIMPID_BYTES_UP=7\n");
}

TEST(JournalEntry, no_value_makes_a_field_of_its_own) {
  const std::array fields{field("name", "x\nPRIORITY=0")};
  const std::string entry = format_journal_entry("m", fields);
  const std::string length("\x0c\0\0\0\0\0\0\0", 8);
  EXPECT_TRUE(entry.ends_with("\nLIMPID_NAME\n" + length + "x\nPRIORITY=0\n")) << entry;
}

TEST(Journal, finds_a_journald_that_comes_and_goes) {
  const auto folder = std::filesystem::temp_directory_path() / ("journal-" + std::to_string(::getpid()));
  std::filesystem::create_directory(folder);
  const std::string path = folder / "socket";
  const auto journal = Journal::open(path);
  ASSERT_TRUE(journal);
  EXPECT_FALSE(journal->write("MESSAGE=nobody\n", 0));
  {
    const Receiver first(path);
    EXPECT_TRUE(journal->write("MESSAGE=one\n", 0));
    EXPECT_EQ(first.next(), "MESSAGE=one\n");
    // Nobody reads: the kernel takes a few (net.unix.max_dgram_qlen).
    int taken = 0;
    while (taken < 100'000 && journal->write("MESSAGE=more\n", 0)) ++taken;
    EXPECT_GT(taken, 0);
    EXPECT_LT(taken, 100'000);
  }
  EXPECT_FALSE(journal->write("MESSAGE=gone\n", 0));
  const Receiver second(path);
  EXPECT_TRUE(journal->write("MESSAGE=two\n", 0));
  EXPECT_EQ(second.next(), "MESSAGE=two\n");
  std::filesystem::remove_all(folder);
}

TEST(Journal, refuses_a_path_that_no_socket_has) {
  EXPECT_FALSE(Journal::open(std::string(108, 'x')));
}

}  // namespace
}  // namespace limpid
