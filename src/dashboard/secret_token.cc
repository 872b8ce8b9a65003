// The file is judged by its descriptor, so that what was looked at is what is read.
#include "dashboard/secret_token.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "limpid/unique_fd.h"

namespace limpid {
namespace {

constexpr std::string_view kFlag = "--dashboard-token-file";

std::string how_to_make_one(const std::string& path) {
  return fmt::format("make one: (umask 077; openssl rand -hex 32 > {})", path);
}

}  // namespace

Result<SecretToken> SecretToken::read(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat status{};
  if (!file.valid() || fstat(file.get(), &status) != 0) return system_error(errno, kFlag, path, how_to_make_one(path));
  if (!S_ISREG(status.st_mode)) return usage_error(kFlag, path, "it is no regular file", how_to_make_one(path));
  constexpr mode_t kOthers = S_IRWXG | S_IRWXO;
  if ((status.st_mode & kOthers) != 0)
    return usage_error(kFlag, path, "others than its owner may read or write it", fmt::format("chmod 0600 {}", path));
  if (status.st_uid != 0 && status.st_uid != geteuid())
    return usage_error(kFlag, path, "it belongs to another user", fmt::format("chown root {}", path));
  std::array<char, kMostBytes + 2> buffer{};
  const ssize_t count = ::read(file.get(), buffer.data(), buffer.size());
  if (count < 0) return system_error(errno, kFlag, path);
  std::string text(buffer.data(), static_cast<std::size_t>(count));
  if (text.ends_with('\n')) text.pop_back();
  const bool printable = std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~'; });
  if (!printable || text.size() < kLeastBytes || text.size() > kMostBytes) {
    return usage_error(kFlag, path,
                       fmt::format("it is to hold one line of {} to {} printable ASCII characters without spaces",
                                   kLeastBytes, kMostBytes),
                       how_to_make_one(path));
  }
  return SecretToken(std::move(text));
}

bool SecretToken::matches(std::string_view guess) const noexcept {
  return guess.size() == text_.size() && CRYPTO_memcmp(guess.data(), text_.data(), text_.size()) == 0;
}

}  // namespace limpid
