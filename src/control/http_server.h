// HttpServer: HTTP/1.1 for operators, on a thread of its own, over libmicrohttpd. Knows connections, requests and replies, and nothing of what they are
// about. Everything that a client can make it hold is bounded: connections, headers, bodies, and the time that each may take.
//
// Theory of operation. One thread polls the epoll descriptors of its doors (one libmicrohttpd daemon each) and an eventfd. A handler may reply at once, or
// keep the HttpReply and send it later from any thread: until then, and not for ever, the connection is suspended, which costs nobody else anything. A client has
// kPatience for each request, from its first byte to the last one of the answer, however slowly it speaks: the library's own time-out begins anew with
// every byte.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "limpid/error.h"
#include "limpid/unique_fd.h"

namespace limpid {

/// Who is at the other end of a Unix socket.
struct HttpPeer {
  pid_t pid = 0;  ///< 0: of another process ID namespace
  uid_t uid = 0;
};

struct HttpRequest {
  std::string method;
  std::string path;  ///< decoded; without arguments
  std::map<std::string, std::string, std::less<>> arguments;
  std::string body;
  std::optional<HttpPeer> peer;
  std::map<std::string, std::string, std::less<>>
      headers{};  ///< by lower-case name; several of one name with ", " between
  /// Of a TCP connection, as inet_ntop(3) writes it, without the port; empty for a Unix socket.
  std::string from{};  ///< who asks
  std::string at{};    ///< the address of ours that was asked
};

struct HttpResponse {
  unsigned status = 200;
  std::string body{};
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers{};  ///< besides the usual ones
};

/// The answer to one request, to be sent once, by anybody. Whoever drops it without sending leaves the client to its own patience.
class HttpReply {
 public:
  struct State;
  explicit HttpReply(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}
  /// `make` is called on the server's thread. From any thread; the second call does nothing.
  void send(std::function<HttpResponse()> make) const;
  void send(HttpResponse response) const;

 private:
  std::shared_ptr<State> state_;
};

using HttpHandler = std::function<void(const HttpRequest&, HttpReply)>;

/// A listener and what is behind it.
struct HttpDoor {
  UniqueFd listener;
  HttpHandler handler;
  unsigned most_connections = 32;
  unsigned most_for_one_address = 0;  ///< connections; 0: as many as there are
};

class HttpServer {
 public:
  static constexpr std::size_t kMostBodyBytes = 65536;
  static constexpr std::chrono::seconds kPatience{10};

  /// How long a request waits for its reply: then it gets 503, so that whoever never replies cannot use up the connections.
  static constexpr std::chrono::seconds kLongestWait{60};

  [[nodiscard]] static Result<std::unique_ptr<HttpServer>> start(std::vector<HttpDoor> doors,
                                                                 std::chrono::milliseconds longest_wait = kLongestWait);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  HttpServer(HttpServer&&) = delete;
  HttpServer& operator=(HttpServer&&) = delete;
  /// Accepts nobody any more, and returns when those who had asked have their answers, or soon.
  void retire();
  ~HttpServer();  ///< closes every connection; requests that still wait get no answer

 private:
  struct Inside;
  explicit HttpServer(std::unique_ptr<Inside> inside) noexcept;
  std::unique_ptr<Inside> inside_;
};

}  // namespace limpid
