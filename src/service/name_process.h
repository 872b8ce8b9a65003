// NameProcess: looks names up for NameLookups, several at once, in a process of its own: getaddrinfo(3) blocks, reads what strangers' servers answer, and needs
// no privilege. Owned by the service, which forks it before its first thread.
#pragma once

#include <sys/types.h>

#include <optional>

#include "base/confinement.h"
#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

class NameProcess {
 public:
  /// Forks: must be called before the first thread starts. `user`: whom it becomes, where it may; empty: it stays who we are.
  [[nodiscard]] static Result<NameProcess> start(const std::optional<UnprivilegedUser>& user);
  NameProcess(NameProcess&& other) noexcept;
  NameProcess& operator=(NameProcess&&) = delete;
  NameProcess(const NameProcess&) = delete;
  NameProcess& operator=(const NameProcess&) = delete;
  ~NameProcess();  ///< ends it

  /// To be given to NameLookups; once.
  [[nodiscard]] UniqueFd take_channel() noexcept { return std::move(channel_); }

 private:
  NameProcess(pid_t pid, UniqueFd channel) noexcept : pid_(pid), channel_(std::move(channel)) {}
  pid_t pid_ = -1;
  UniqueFd channel_;
};

}  // namespace limpid
