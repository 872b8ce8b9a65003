// What must not be shown of settings: passwords. What is shown instead tells two apart, mostly, but not what they are.
#pragma once

#include <string>
#include <string_view>

namespace limpid {

/// "socks5://USER:PASSWORD@HOST" becomes "socks5://USER:***-1f2e@HOST"; the value of a setting that is itself a password becomes "***-1f2e". The four
/// digits are 16 bits of a hash: a changed password shows as a difference, and nobody can find it out by them.
[[nodiscard]] std::string without_secrets(std::string_view setting, std::string_view value);

}  // namespace limpid
