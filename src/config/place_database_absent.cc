// Stands for place_database.cc in a build without libmaxminddb.
#include "config/place_database.h"

namespace limpid {

Result<PlaceNetworks> read_place_database(const std::filesystem::path& file, PlaceKind /*kind*/) {
  return unsupported("read", file.string(), "this build cannot read such databases",
                     "build Limpid where libmaxminddb-dev is installed");
}

}  // namespace limpid
