// read_configuration: whatever the file holds, each mistake has its place, and what has none is a whole configuration.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <string>

#include "config/configuration.h"
#include "limpid/unique_fd.h"
#include "tests/fuzz/property.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // A file of its own, beside which there is no conf.d.
  const limpid::UniqueFd file(memfd_create("limpid.toml", MFD_CLOEXEC));
  limpid::fuzz::check(write(file.get(), data, size) == static_cast<ssize_t>(size), "a file can be written");
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());

  const auto read = limpid::read_configuration(path);
  for (const limpid::Error& error : read.errors) {
    limpid::fuzz::check(error.operation.starts_with(path), "an error names the file");
    limpid::fuzz::check(!error.cause.empty(), "an error has a cause");
  }
  const limpid::Configuration& is = read.configuration;
  limpid::fuzz::check(is.rules.size() == is.rule_places.size() && is.rules.size() == is.rule_numbers.size(),
                      "each rule has a place and a number");
  for (const limpid::Setting& setting : is.settings) {
    limpid::fuzz::check(setting.place.line > 0, "each setting has a line");
    limpid::fuzz::check(is.find(setting.key) == &setting, "each key is there once");
  }
  for (const limpid::GroupSettings& group : is.groups) {
    for (const limpid::Setting& setting : group.settings)
      limpid::fuzz::check(group.find(setting.key) == &setting, "each key of a group is there once");
  }
  const auto loaded = limpid::load_configuration(path);
  limpid::fuzz::check(loaded.has_value() == (read.errors.empty() && read.is_complete), "whole, or with its mistakes");
  return 0;
}
