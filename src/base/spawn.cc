// posix_spawn(3), its file actions and its attributes.
#include "base/spawn.h"

namespace limpid {

std::vector<char*> exec_vector(std::vector<std::string>& words) {
  std::vector<char*> pointers;
  pointers.reserve(words.size() + 1);
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);
  return pointers;
}

SpawnSettings::SpawnSettings(std::initializer_list<int> defaults) {
  posix_spawn_file_actions_init(&actions_);
  posix_spawnattr_init(&attributes_);
  sigset_t none;
  sigset_t reset;
  sigemptyset(&none);
  sigemptyset(&reset);
  for (const int signal : defaults) sigaddset(&reset, signal);
  posix_spawnattr_setsigmask(&attributes_, &none);
  posix_spawnattr_setsigdefault(&attributes_, &reset);
  posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

SpawnSettings::~SpawnSettings() {
  posix_spawn_file_actions_destroy(&actions_);
  posix_spawnattr_destroy(&attributes_);
}

void SpawnSettings::connect(int fd, int number) {
  posix_spawn_file_actions_adddup2(&actions_, fd, number);
}

void SpawnSettings::close_from(int number) {
  posix_spawn_file_actions_addclosefrom_np(&actions_, number);
}

void SpawnSettings::leave_group() {
  posix_spawnattr_setpgroup(&attributes_, 0);
  posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
}

int SpawnSettings::spawn(pid_t& pid, const char* path, const std::vector<char*>& argv,
                         const std::vector<char*>& environment, Search search) const {
  const auto start = search == Search::in_path ? posix_spawnp : posix_spawn;
  return start(&pid, path, &actions_, &attributes_, argv.data(), environment.data());
}

}  // namespace limpid
