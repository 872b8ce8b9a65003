// What is never in a dump, whatever the flags say: passwords and their like. Pure.
#pragma once

#include <string>
#include <string_view>

namespace limpid {

/// Without what stands before the @ of a URL, behind "password = ", "secret: ", "token=", "--password " and their like (whole lists, too), and between the lines of a PEM key.
[[nodiscard]] std::string hide_secrets(std::string_view text);

}  // namespace limpid
