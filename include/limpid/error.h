// Errors as values. Every fallible function of Limpid returns Result<T>; nothing throws across our functions.
// An Error says operation, object and cause, and, where the user can mend it, how.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

namespace limpid {

/// What an error means for the caller; the command line maps it to its exit status (1, 2, 3).
enum class ErrorKind : std::uint8_t {
  failure,      ///< something went wrong while doing what was asked
  usage,        ///< what was asked for makes no sense: a wrong flag, port, name
  unsupported,  ///< not permitted, or not supported by this kernel or this host
};

struct [[nodiscard]] Error {
  ErrorKind kind = ErrorKind::failure;
  int code = 0;           ///< errno where a system call failed, otherwise 0
  std::string operation;  ///< what was attempted: "bind"
  std::string object;     ///< on what: "[::]:1088"; may be empty
  std::string cause;      ///< why it failed: "Permission denied"
  std::string remedy;     ///< how the user can mend it; empty where nobody knows

  /// "operation object: cause (remedy)", one line without a newline.
  [[nodiscard]] std::string message() const;
};

template <class T>
using Result = std::expected<T, Error>;

/// The outcome of an operation that yields nothing but success.
using Status = Result<void>;

/// An error out of a failed system call; `code` is its errno. EPERM and EACCES become ErrorKind::unsupported.
[[nodiscard]] std::unexpected<Error> system_error(int code, std::string_view operation, std::string_view object,
                                                  std::string_view remedy = {});

[[nodiscard]] std::unexpected<Error> failure(std::string_view operation, std::string_view object,
                                             std::string_view cause, std::string_view remedy = {});

[[nodiscard]] std::unexpected<Error> usage_error(std::string_view operation, std::string_view object,
                                                 std::string_view cause, std::string_view remedy = {});

[[nodiscard]] std::unexpected<Error> unsupported(std::string_view operation, std::string_view object,
                                                 std::string_view cause, std::string_view remedy = {});

}  // namespace limpid
