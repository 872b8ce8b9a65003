// See file_text.h. An istreambuf_iterator would let the exceptions of the buffer through ("error reading the file: No such process");
// the stream's own operators turn them into a state.
#include "base/file_text.h"

#include <fstream>
#include <sstream>

namespace limpid {

std::string read_text(const std::filesystem::path& path) {
  const std::ifstream file(path);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  return std::move(text).str();
}

}  // namespace limpid
