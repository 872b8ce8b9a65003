// libarchive writes into our descriptor: it never opens a file itself.
#include "sysdump/archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <memory>

#include "limpid/unique_fd.h"

namespace limpid {
namespace {

constexpr mode_t kOwnerOnly = 0600;

using Archive = std::unique_ptr<archive, decltype(&archive_write_free)>;
using Entry = std::unique_ptr<archive_entry, decltype(&archive_entry_free)>;

Status complaint(archive* of, const std::string& file) {
  const char* const said = archive_error_string(of);
  return failure("write", file, said != nullptr ? said : "libarchive says nothing more");
}

Status write_parts(int fd, const std::string& file, const std::string& folder, const std::vector<SysdumpPart>& parts) {
  const Archive to(archive_write_new(), archive_write_free);
  if (!to) return system_error(ENOMEM, "write", file);
  if (archive_write_set_format_pax_restricted(to.get()) != ARCHIVE_OK ||
      archive_write_add_filter_gzip(to.get()) != ARCHIVE_OK || archive_write_open_fd(to.get(), fd) != ARCHIVE_OK) {
    return complaint(to.get(), file);
  }
  const std::time_t now = std::time(nullptr);
  for (const SysdumpPart& part : parts) {
    if (!part.missing.empty()) continue;
    const Entry entry(archive_entry_new(), archive_entry_free);
    if (!entry) return system_error(ENOMEM, "write", file);
    archive_entry_set_pathname(entry.get(), (folder + "/" + part.path).c_str());
    archive_entry_set_size(entry.get(), static_cast<la_int64_t>(part.text.size()));
    archive_entry_set_filetype(entry.get(), AE_IFREG);
    archive_entry_set_perm(entry.get(), kOwnerOnly);
    archive_entry_set_mtime(entry.get(), now, 0);
    if (archive_write_header(to.get(), entry.get()) != ARCHIVE_OK ||
        archive_write_data(to.get(), part.text.data(), part.text.size()) != static_cast<la_ssize_t>(part.text.size())) {
      return complaint(to.get(), file);
    }
  }
  return archive_write_close(to.get()) == ARCHIVE_OK ? Status{} : complaint(to.get(), file);
}

}  // namespace

Result<std::uint64_t> write_archive(const std::string& file, const std::string& folder,
                                    const std::vector<SysdumpPart>& parts) {
  // O_EXCL follows no link, not even one to nowhere (open(2)).
  const UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, kOwnerOnly));
  if (!fd.valid())
    return system_error(errno, "make", file, errno == EEXIST ? "move it away, or give another name with -o" : "");
  const auto give_up = [&](Status error) -> Result<std::uint64_t> {
    unlink(file.c_str());
    return std::unexpected(error.error());
  };
  if (auto written = write_parts(fd.get(), file, folder, parts); !written) return give_up(std::move(written));
  struct stat status{};
  // A umask takes bits away only; a default ACL may have added some.
  if (fchmod(fd.get(), kOwnerOnly) != 0 || fsync(fd.get()) != 0 || fstat(fd.get(), &status) != 0)
    return give_up(system_error(errno, "write", file));
  return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace limpid
