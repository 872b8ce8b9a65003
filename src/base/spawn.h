// SpawnSettings: how posix_spawn(3) starts a program for those who do more with it than run_process() does: the signals that a program expects, and the
// descriptors that it gets. Nothing of ours runs between fork and exec.
#pragma once

#include <spawn.h>
#include <sys/types.h>

#include <csignal>
#include <initializer_list>
#include <string>
#include <vector>

namespace limpid {

/// As exec takes them, with a null pointer behind the last one. They point into `words`.
[[nodiscard]] std::vector<char*> exec_vector(std::vector<std::string>& words);

class SpawnSettings {
 public:
  /// No signal is blocked for the program, and those of `defaults` are not ignored, whatever we do with them ourselves.
  explicit SpawnSettings(std::initializer_list<int> defaults = {SIGPIPE});
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  SpawnSettings(SpawnSettings&&) = delete;
  SpawnSettings& operator=(SpawnSettings&&) = delete;
  ~SpawnSettings();

  /// It gets `fd`, which is borrowed until spawn(), under this number. Where they are the same, it only loses close-on-exec.
  void connect(int fd, int number);
  /// It gets no descriptor from this number on.
  void close_from(int number);
  /// A process group of its own: ^C is for us.
  void leave_group();

  /// 0, or an errno. `path` is that of a file, unless `search`: then a name without slash is looked for in PATH.
  enum class Search : bool { no, in_path };
  [[nodiscard]] int spawn(pid_t& pid, const char* path, const std::vector<char*>& argv,
                          const std::vector<char*>& environment, Search search = Search::no) const;

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

}  // namespace limpid
