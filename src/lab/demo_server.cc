// nginx and curl for the demonstration. Both run as they are; only their files are ours.
#include "lab/demo_server.h"

#include <fmt/format.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include "base/file_text.h"
#include "base/process.h"

namespace limpid {
namespace {

// One process (master_process off), which changes neither its user nor its owner: in a user namespace there is only
// root.
constexpr std::string_view kServerConfiguration = R"(user root;
daemon off;
master_process off;
pid {0}/nginx.pid;
error_log {0}/nginx.log;
events {{
}}
http {{
  access_log off;
  client_body_temp_path {0}/body;
  proxy_temp_path {0}/proxy;
  fastcgi_temp_path {0}/fastcgi;
  uwsgi_temp_path {0}/uwsgi;
  scgi_temp_path {0}/scgi;
  default_type application/octet-stream;
  server {{
    listen 80;
    listen [::]:80;
    root {0}/www;
    location = /peer {{
      return 200 $remote_addr;
    }}
  }}
}}
)";

Status write_text(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  file.close();
  if (!file) return failure("write", path, "not written whole");
  return {};
}

Status write_random(const std::string& path, std::size_t size_bytes) {
  std::vector<char> block(std::size_t{1} << 20U);
  std::ofstream file(path, std::ios::binary);
  for (std::size_t done = 0; done < size_bytes; done += block.size()) {
    for (std::size_t filled = 0; filled < block.size();) {
      const ssize_t got = ::getrandom(block.data() + filled, block.size() - filled, 0);
      if (got < 0 && errno != EINTR) return system_error(errno, "get", "random bytes");
      if (got > 0) filled += static_cast<std::size_t>(got);
    }
    file.write(block.data(), static_cast<std::streamsize>(block.size()));
  }
  file.close();
  if (!file) return failure("write", path, "not written whole");
  return {};
}

}  // namespace

Result<DemoPrograms> DemoPrograms::find() {
  DemoPrograms programs;
  const std::array<std::pair<std::string*, std::pair<std::string_view, std::string_view>>, 3> wanted{{
      {&programs.nginx, {"nginx", "nginx-light"}},
      {&programs.curl, {"curl", "curl"}},
      {&programs.sha256sum, {"sha256sum", "coreutils"}},
  }};
  for (const auto& [path, names] : wanted) {
    auto found = find_system_program(names.first, names.second);
    if (!found) return std::unexpected(found.error());
    *path = *std::move(found);
  }
  return programs;
}

DemoDirectory::DemoDirectory(std::string path) noexcept : path_(std::move(path)) {}

DemoDirectory::DemoDirectory(DemoDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}

DemoDirectory::~DemoDirectory() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

Result<DemoDirectory> DemoDirectory::create() {
  // Twice the large file, and room for logs.
  if (::mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=256m") < 0) {
    return system_error(errno, "mount", "/tmp");
  }
  std::string path = "/tmp/limpid-demo-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return system_error(errno, "make directory", path);
  return DemoDirectory(std::move(path));
}

Status prepare_server(const DemoDirectory& directory) {
  if (::mkdir(directory.file("www").c_str(), 0755) < 0) return system_error(errno, "make directory", "www");
  const std::string root = std::filesystem::path(directory.file("www")).parent_path().string();
  if (auto written = write_text(directory.file("nginx.conf"), fmt::format(fmt::runtime(kServerConfiguration), root));
      !written) {
    return written;
  }
  return write_random(directory.file("www/large"), kLargeFileBytes);
}

Result<BackgroundProcess> start_server(const DemoPrograms& programs, const DemoDirectory& directory) {
  const std::string log = directory.file("nginx.log");
  auto server = BackgroundProcess::start({programs.nginx, "-e", log, "-c", directory.file("nginx.conf")},
                                         {.standard_output = log, .standard_error = log});
  if (!server) return std::unexpected(server.error());
  // It writes its pid once its sockets listen.
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (read_text(directory.file("nginx.pid")).empty()) {
    if (server->wait(std::chrono::milliseconds(5)) || std::chrono::steady_clock::now() >= deadline) {
      return failure("start", programs.nginx, "it does not come up: " + read_text(log));
    }
  }
  return *std::move(server);
}

Result<Download> download(const DemoPrograms& programs, const DemoDirectory& directory, const IpAddress& server,
                          const std::string& page) {
  const SocketAddress target{.address = server, .port = {80}};
  const std::string saved_as = directory.file("client-" + page);
  const std::string url = "http://" + target.to_string() + "/" + page;
  // Nothing of the user's: no ~/.curlrc (-q must come first), no proxy of the environment.
  const std::vector<std::string> argv{programs.curl,
                                      "-q",
                                      "-g",
                                      "-sS",
                                      "--noproxy",
                                      "*",
                                      "--fail",
                                      "--max-time",
                                      "60",
                                      "-o",
                                      saved_as,
                                      "-w",
                                      "%{local_ip} %{local_port} %{remote_ip} %{remote_port}",
                                      url};
  auto output = run_process(argv, "", std::chrono::seconds(70));
  if (!output) return std::unexpected(output.error());
  if (output->exit_status != 0) {
    return failure("client", url, fmt::format("curl exit status {}: {}", output->exit_status, output->standard_error));
  }
  std::istringstream words(output->standard_output);
  std::string local_ip, remote_ip;
  std::uint16_t local_port = 0, remote_port = 0;
  words >> local_ip >> local_port >> remote_ip >> remote_port;
  const auto local = IpAddress::parse(local_ip);
  const auto remote = IpAddress::parse(remote_ip);
  if (!local || !remote) return failure("client", url, "curl says nothing of its socket: " + output->standard_output);
  return Download{.client = SocketAddress{.address = *local, .port = {local_port}}.to_string(),
                  .dialled = SocketAddress{.address = *remote, .port = {remote_port}}.to_string(),
                  .saved_as = saved_as};
}

Result<std::string> sha256(const DemoPrograms& programs, const std::string& path) {
  auto output = run_process(std::vector<std::string>{programs.sha256sum, path}, "", std::chrono::seconds(60));
  if (!output) return std::unexpected(output.error());
  if (output->exit_status != 0) return failure("run", programs.sha256sum, output->standard_error);
  return output->standard_output.substr(0, output->standard_output.find(' '));
}

}  // namespace limpid
