// Where an instance's control socket lies, and the socket: who may connect is said by the file system. Opened by the service, asked by the command line.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// The folder of the sockets: /run/limpid, or what the environment says in LIMPID_RUN_DIRECTORY.
[[nodiscard]] std::string run_directory();
/// ctl.sock in it for the instance "limpid", ctl-NAME.sock for others.
[[nodiscard]] std::string default_control_path(std::string_view instance);

/// Whether there is a socket that nobody listens on any more, as a killed instance leaves it.
[[nodiscard]] bool is_stale_socket(const std::string& path);
/// Takes such a one away. Whether there was one; what is alive, or no socket, is left alone.
[[nodiscard]] Result<bool> remove_stale_socket(const std::string& path);

/// A listening Unix socket with its file: 0660, of the group limpid if there is one. The file goes with the object.
class ControlSocket {
 public:
  /// Makes the folder if it is the default one. A socket that nobody listens on any more is replaced; one with somebody behind it is an error.
  [[nodiscard]] static Result<ControlSocket> open(const std::string& path);
  /// One that a predecessor has opened at this path, and listens on still: leave() is at work until own().
  [[nodiscard]] static Result<ControlSocket> adopt(const std::string& path, UniqueFd listener);
  ControlSocket(ControlSocket&& other) noexcept = default;
  ControlSocket& operator=(ControlSocket&& other) = delete;
  ControlSocket(const ControlSocket&) = delete;
  ControlSocket& operator=(const ControlSocket&) = delete;
  ~ControlSocket();  ///< removes the file, if it is still ours and was not left

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// The file stays when the object goes: it is somebody else's; or is ours after all.
  void leave() noexcept { left_ = true; }
  void own() noexcept { left_ = false; }
  /// Borrowed.
  [[nodiscard]] int listener() const noexcept { return listener_.get(); }
  /// The caller's from now on.
  [[nodiscard]] UniqueFd take_listener() noexcept { return std::move(listener_); }

 private:
  ControlSocket(std::string path, UniqueFd folder, UniqueFd listener) noexcept
      : path_(std::move(path)), folder_(std::move(folder)), listener_(std::move(listener)) {}
  std::string path_;
  UniqueFd folder_;  ///< empty once moved from
  UniqueFd listener_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  bool left_ = false;
};

}  // namespace limpid
