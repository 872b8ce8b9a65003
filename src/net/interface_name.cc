// Decides which interface names go on to nftables and netlink. Pure.
#include "net/interface_name.h"

namespace limpid {
namespace {

constexpr std::size_t kLongestName = 15;  // IFNAMSIZ, linux/if.h, counts the final NUL

constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:@-";

// The name comes from a user and goes into a message: nothing in it may act on the terminal.
std::string quoted(std::string_view text) {
  std::string shown = "\"";
  for (const char character : text.substr(0, 64)) shown += character >= ' ' && character <= '~' ? character : '?';
  return shown + (text.size() > 64 ? "…\"" : "\"");
}

}  // namespace

Result<std::string> validate_interface_name(std::string_view text) {
  static constexpr std::string_view kOperation = "interface name";
  static constexpr std::string_view kRemedy = "`ip link` lists the interfaces";
  if (text.empty()) return usage_error(kOperation, "", "is empty", kRemedy);
  if (text.size() > kLongestName) return usage_error(kOperation, quoted(text), "is longer than 15 characters", kRemedy);
  if (text.ends_with('*')) {
    return usage_error(kOperation, quoted(text), "wildcards are not accepted", "name each interface");
  }
  if (text == "." || text == "..")
    return usage_error(kOperation, quoted(text), "the kernel accepts no such name", kRemedy);
  if (text.starts_with('-')) return usage_error(kOperation, quoted(text), "starts with a dash", kRemedy);
  if (text.find_first_not_of(kAllowed) != std::string_view::npos) {
    return usage_error(kOperation, quoted(text), "has a character outside A-Z a-z 0-9 _ . : @ -", kRemedy);
  }
  return std::string(text);
}

}  // namespace limpid
