// Journal: entries for systemd-journald with fields of their own, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL): one datagram an entry.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// One entry as it is sent: MESSAGE, PRIORITY (6, informational), SYSLOG_IDENTIFIER (limpid), and each field as LIMPID_ and its key in capitals.
/// Values may hold any bytes. What comes from the network cannot make a field of its own.
[[nodiscard]] std::string format_journal_entry(std::string_view message, std::span<const Field> fields);

/// Used by one thread.
class Journal {
 public:
  static constexpr std::string_view kSocket = "/run/systemd/journal/socket";

  /// `path`: at most 107 bytes. Whether anybody listens there shows at each write: journald may come and go.
  [[nodiscard]] static Result<Journal> open(std::string_view path = kSocket);

  /// False: it was not taken, because nobody listens or nobody has read for `patience_ms`; errno says which.
  [[nodiscard]] bool write(std::string_view entry, int patience_ms) const;

 private:
  explicit Journal(UniqueFd fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  [[nodiscard]] bool connect() const;
  UniqueFd fd_;
  std::string path_;
};

}  // namespace limpid
