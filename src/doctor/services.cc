// See services.h. A process's network namespace is told by the link /proc/PID/ns/net, which is the same text for the same one.
#include "doctor/services.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <ranges>
#include <string>
#include <system_error>

#include "base/file_text.h"

namespace limpid::doctor {
namespace {

namespace fs = std::filesystem;

std::string_view trimmed(std::string_view text) {
  const auto begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

}  // namespace

bool runs_here(std::string_view comm) {
  std::error_code failed;
  const fs::path here = fs::read_symlink("/proc/thread-self/ns/net", failed);
  std::error_code ended;
  for (auto entry = fs::directory_iterator("/proc", ended); !ended && entry != fs::directory_iterator();
       entry.increment(ended)) {
    const std::string name = entry->path().filename();
    if (!std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; })) continue;
    if (trimmed(read_text(entry->path() / "comm")) != comm) continue;
    const fs::path there = fs::read_symlink(entry->path() / "ns/net", failed);
    // Without privileges nobody else's namespace can be read: then it counts as this one. One that is gone has just ended.
    if (failed ? failed == std::errc::permission_denied : there == here) return true;
  }
  return false;
}

std::string_view find_setting(std::string_view text, std::string_view section, std::string_view key) {
  std::string_view value;
  bool inside = false;
  for (const auto part : std::views::split(text, '\n')) {
    const std::string_view line = trimmed(std::string_view(part.begin(), part.end()));
    if (line.starts_with('[')) inside = line.size() > 2 && line.substr(1, line.size() - 2) == section;
    const auto equals = line.find('=');
    if (!inside || line.starts_with('#') || line.starts_with(';') || equals == std::string_view::npos) continue;
    if (trimmed(line.substr(0, equals)) == key) value = trimmed(line.substr(equals + 1));
  }
  return value;
}

bool networkd_keeps_foreign_rules() {
  // networkd.conf(5): the main file first, then drop-ins by name; of two with one name that in /etc counts.
  std::map<std::string, fs::path> drop_ins;
  for (const fs::path directory : {"/usr/lib/systemd", "/run/systemd", "/etc/systemd"}) {
    std::error_code ended;
    for (auto entry = fs::directory_iterator(directory / "networkd.conf.d", ended);
         !ended && entry != fs::directory_iterator(); entry.increment(ended)) {
      if (entry->path().extension() == ".conf") drop_ins[entry->path().filename()] = entry->path();
    }
  }
  std::string value;
  const auto read = [&value](const fs::path& path) {
    const std::string text = read_text(path);
    const std::string_view found = find_setting(text, "Network", "ManageForeignRoutingPolicyRules");
    if (!found.empty()) value = found;
  };
  read("/etc/systemd/networkd.conf");
  for (const auto& [name, path] : drop_ins) read(path);
  static constexpr std::array<std::string_view, 5> kNo = {"no", "false", "off", "0", "n"};
  return std::ranges::find(kNo, value) != kNo.end();
}

}  // namespace limpid::doctor
