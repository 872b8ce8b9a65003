// Facts about the token's file: what is taken, and what is refused with the command that mends it.
#include "dashboard/secret_token.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace limpid {
namespace {

class SecretTokenFile : public testing::Test {
 protected:
  void SetUp() override { ASSERT_NE(mkdtemp(folder_.data()), nullptr); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string write(const std::string& content, mode_t mode = S_IRUSR | S_IWUSR) {
    const std::string path = folder_ + "/token";
    std::filesystem::remove_all(path);
    std::ofstream(path, std::ios::binary) << content;
    EXPECT_EQ(chmod(path.c_str(), mode), 0);
    return path;
  }
  std::string refusal(const std::string& path) {
    const auto token = SecretToken::read(path);
    return token ? "" : token.error().message();
  }
  std::string folder_ = "/tmp/limpid-token-XXXXXX";
};

TEST_F(SecretTokenFile, one_line_is_the_token) {
  const std::string text(SecretToken::kLeastBytes, 'x');
  for (const std::string& content : {text, text + "\n"}) {
    const auto token = SecretToken::read(write(content));
    ASSERT_TRUE(token) << token.error().message();
    EXPECT_TRUE(token->matches(text));
    for (const std::string& wrong :
         {std::string(), text + "x", text.substr(1), text + text, text + "\n", "y" + text.substr(1)})
      EXPECT_FALSE(token->matches(wrong)) << wrong;
  }
  EXPECT_EQ(refusal(write(std::string(SecretToken::kMostBytes, 'x') + "\n", S_IRUSR)), "");
}

TEST_F(SecretTokenFile, a_file_for_others_too_is_refused_with_what_mends_it) {
  const std::string text = std::string(32, 'x') + "\n";
  for (const mode_t mode : {0640U, 0604U, 0620U, 0644U}) {
    const std::string path = write(text, mode);
    EXPECT_NE(refusal(path).find("chmod 0600 " + path), std::string::npos) << refusal(path);
  }
  if (geteuid() == 0) {
    constexpr uid_t kNobody = 65534;
    const std::string path = write(text);
    ASSERT_EQ(chown(path.c_str(), kNobody, static_cast<gid_t>(-1)), 0);
    EXPECT_NE(refusal(path).find("another user"), std::string::npos);
  }
}

TEST_F(SecretTokenFile, what_is_no_token_is_refused_with_the_command_that_makes_one) {
  const std::string text(32, 'x');
  for (const std::string& content :
       {std::string(), std::string("\n"), text.substr(0, SecretToken::kLeastBytes - 1), text + "\n\n",
        fmt::format("{0} {0}", text), fmt::format("{0}\n{0}", text), text + '\0', text + "\xff", text + "\r\n",
        std::string(SecretToken::kMostBytes + 1, 'x'), std::string(100'000, 'x')}) {
    EXPECT_NE(refusal(write(content)).find("openssl rand"), std::string::npos) << content.substr(0, 80);
  }
  EXPECT_NE(refusal(folder_ + "/nothing").find("openssl rand"), std::string::npos);
  EXPECT_NE(refusal(folder_).find("no regular file"), std::string::npos);
  const std::string pipe = folder_ + "/pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), S_IRUSR | S_IWUSR), 0);
  EXPECT_NE(refusal(pipe).find("no regular file"), std::string::npos) << "and nobody waits for a writer";
}

}  // namespace
}  // namespace limpid
