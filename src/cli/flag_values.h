// What several flags have in common: lists, numbers, and errors that say which flag is wrong.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"

namespace limpid {

/// A usage error about a flag. What was typed goes back to the terminal, so nothing in it may act there.
[[nodiscard]] std::unexpected<Error> wrong(std::string_view flag, std::string_view typed, std::string_view cause,
                                           std::string_view remedy);
/// The same error, said of a flag.
[[nodiscard]] std::unexpected<Error> wrong(std::string_view flag, std::string_view typed, const Error& error);

/// Each of a repeatable flag's values, which may be lists: "a,b". An empty item is an error, because it is what a
/// script's unset variable leaves.
[[nodiscard]] Result<std::vector<std::string>> items_of(std::string_view flag, const std::vector<std::string>& values);

[[nodiscard]] Result<std::uint32_t> parse_number(std::string_view flag, std::string_view typed, std::uint32_t least,
                                                 std::uint32_t most, std::string_view meaning);

/// A mark for SO_MARK: a plain number, not 0.
[[nodiscard]] Result<std::uint32_t> parse_socket_mark(std::string_view flag, std::string_view typed);

/// An error for "192.0.2.9:80" where only a host may stand. `command` is what the remedy begins with: "limpid nc".
[[nodiscard]] Status refuse_port(std::string_view operand, std::string_view typed, std::string_view command);

/// An error for a link-local IPv6 address that does not say which link.
[[nodiscard]] Status check_scope(std::string_view flag, std::string_view typed, const SocketAddress& address);

/// That, and an error for an address at which no single host can be dialled. Names are not looked up.
[[nodiscard]] Status check_dialled(std::string_view flag, std::string_view typed, const SocketAddress& target);

}  // namespace limpid
