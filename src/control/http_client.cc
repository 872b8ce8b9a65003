// HTTP/1.0 on purpose: the answer has a status line, headers, and a body up to the end of the connection. No library is worth that much.
#include "control/http_client.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "limpid/unique_fd.h"

namespace limpid {
namespace {

/// A page of flows has half a megabyte, a configuration thousands of rules.
constexpr std::size_t kLongestAnswerBytes = std::size_t{64} << 20U;

/// Where an instance ends, or another process takes its place, before it has answered.
std::unexpected<Error> ended_early(const std::string& path) {
  return failure("ask", path, "the connection ended before the answer",
                 "what was ordered may have been done: look with limpid status");
}

bool is_over(int code) noexcept {
  return code == EPIPE || code == ECONNRESET;
}

Status write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t count = send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && is_over(errno)) return ended_early(path);
    if (count <= 0) return system_error(errno, "ask", path);
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  return {};
}

Result<std::string> read_all(int fd, const std::string& path) {
  std::string text;
  std::array<char, 65536> buffer{};
  for (;;) {
    const ssize_t count = recv(fd, buffer.data(), buffer.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      return failure("ask", path, "it does not answer in time", "see its log");
    if (count < 0 && is_over(errno)) return ended_early(path);
    if (count < 0) return system_error(errno, "ask", path);
    if (count == 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(count));
    if (text.size() > kLongestAnswerBytes) return failure("ask", path, "its answer is too long");
  }
}

Result<HttpAnswer> parse_answer(std::string text, const std::string& path) {
  constexpr std::string_view kVersion = "HTTP/1.";
  if (text.empty()) return ended_early(path);
  const auto no_sense = [&] {
    return failure("ask", path, "its answer is no HTTP", "is that the control socket of Limpid?");
  };
  const auto end = text.find("\r\n\r\n");
  const auto space = text.find(' ');
  HttpAnswer answer;
  if (!text.starts_with(kVersion) || end == std::string::npos || space > end) return no_sense();
  const char* number = text.data() + space + 1;
  if (std::from_chars(number, text.data() + end, answer.status).ec != std::errc{}) return no_sense();
  answer.body = text.substr(end + 4);
  return answer;
}

Result<UniqueFd> connect_to(const std::string& path, std::chrono::seconds patience) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return usage_error("--control", path, "a path of a Unix socket has 1 to 107 bytes");
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return system_error(errno, "open", "Unix socket");
  const timeval time{.tv_sec = patience.count(), .tv_usec = 0};
  setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time);
  setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): what connect(2) asks for
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return socket;
  switch (errno) {
    case ENOENT:
    case ECONNREFUSED: {
      auto nobody = failure(
          "ask", path,
          errno == ENOENT ? "the instance does not run"
                          : "the instance does not run any more: it, or the process that keeps its rules, was killed",
          "start it: limpid run -c FILE; name it with --name, or its socket with --control");
      nobody.error().code = ENOENT;
      return nobody;
    }
    case EACCES:
    case EPERM:
      return unsupported("ask", path, "only root and members of the group limpid may",
                         "sudo, or: usermod -a -G limpid USER");
    default: return system_error(errno, "ask", path);
  }
}

int peer_process(int socket) {
  ucred peer{};
  socklen_t length = sizeof peer;
  return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 ? peer.pid : 0;
}

}  // namespace

Result<HttpAnswer> ask_control(const std::string& socket_path, std::string_view method, std::string_view target,
                               std::string_view body, std::chrono::seconds patience) {
  const auto socket = connect_to(socket_path, patience);
  if (!socket) return std::unexpected(socket.error());
  const std::string request =
      fmt::format("{} {} HTTP/1.0\r\nHost: limpid\r\nContent-Length: {}\r\n\r\n{}", method, target, body.size(), body);
  if (auto written = write_all(socket->get(), request, socket_path); !written) return std::unexpected(written.error());
  auto text = read_all(socket->get(), socket_path);
  if (!text) return std::unexpected(text.error());
  auto answer = parse_answer(std::move(*text), socket_path);
  if (answer) answer->peer = peer_process(socket->get());
  return answer;
}

std::string percent_encode(std::string_view text) {
  constexpr std::string_view kPlain = "-._~:,";
  std::string encoded;
  for (const char c : text) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (letter || kPlain.find(c) != std::string_view::npos) {
      encoded += c;
    } else {
      fmt::format_to(std::back_inserter(encoded), "%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

}  // namespace limpid
