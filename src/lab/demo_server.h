// The web server and the web client of the demonstration: nginx and curl, with all they need in one directory.
#pragma once

#include <cstddef>
#include <string>

#include "lab/background_process.h"
#include "limpid/address.h"
#include "limpid/error.h"

namespace limpid {

inline constexpr std::size_t kLargeFileBytes = std::size_t{64} * 1024 * 1024;

/// The programs, found before anything is begun. The error names the Debian package that is missing.
struct DemoPrograms {
  std::string nginx;
  std::string curl;
  std::string sha256sum;
  [[nodiscard]] static Result<DemoPrograms> find();
};

/// A directory on a file system in memory that only this mount namespace sees: it ends with its processes. Removed by
/// the destructor all the same.
class DemoDirectory {
 public:
  [[nodiscard]] static Result<DemoDirectory> create();
  DemoDirectory(DemoDirectory&& other) noexcept;
  DemoDirectory& operator=(DemoDirectory&&) = delete;
  DemoDirectory(const DemoDirectory&) = delete;
  DemoDirectory& operator=(const DemoDirectory&) = delete;
  ~DemoDirectory();
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  explicit DemoDirectory(std::string path) noexcept;
  std::string path_;
};

/// Fills `directory` with the server's configuration and the large file.
[[nodiscard]] Status prepare_server(const DemoDirectory& directory);

/// Starts nginx in the calling thread's network namespace and waits until it listens: /peer answers with the address
/// that the server sees as its peer, /large with the file.
[[nodiscard]] Result<BackgroundProcess> start_server(const DemoPrograms& programs, const DemoDirectory& directory);

/// What one request of the client came to.
struct Download {
  std::string client;    ///< its own socket address, as access logs write it
  std::string dialled;   ///< the server's, as the client's socket has it
  std::string saved_as;  ///< where the answer is
};

/// Runs curl in the calling thread's network namespace.
[[nodiscard]] Result<Download> download(const DemoPrograms& programs, const DemoDirectory& directory,
                                        const IpAddress& server, const std::string& page);

/// The SHA-256 of a file, in hexadecimal.
[[nodiscard]] Result<std::string> sha256(const DemoPrograms& programs, const std::string& path);

}  // namespace limpid
