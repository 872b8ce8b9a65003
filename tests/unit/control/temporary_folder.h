// A folder with room for one control socket, which goes with the test.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace limpid {

class TemporaryFolder {
 public:
  TemporaryFolder() { EXPECT_NE(mkdtemp(path_.data()), nullptr); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  TemporaryFolder(TemporaryFolder&&) = delete;
  TemporaryFolder& operator=(TemporaryFolder&&) = delete;
  ~TemporaryFolder() {
    unlink(socket().c_str());
    rmdir(path_.c_str());
  }
  [[nodiscard]] std::string socket() const { return path_ + "/ctl.sock"; }

 private:
  std::string path_ = "/tmp/limpid-http-XXXXXX";
};

}  // namespace limpid
