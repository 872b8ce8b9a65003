// libmicrohttpd in its external event loop: callbacks run on our one thread, so nothing here but replies needs a lock.
#include "control/http_server.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "base/ascii.h"

namespace limpid {
namespace {

using Clock = std::chrono::steady_clock;

/// Of one request line and all headers; more is refused with 431 or 414 by the library.
constexpr std::size_t kMostConnectionBytes = 32768;
constexpr int kTickMs = 500;

}  // namespace

struct HttpReply::State {
  std::shared_ptr<UniqueFd> wake;  ///< eventfd; outlives the server
  std::mutex mutex;
  std::function<HttpResponse()> make;  ///< under the mutex
  bool sent = false;                   ///< under the mutex

  [[nodiscard]] bool is_sent() {
    const std::lock_guard lock(mutex);
    return sent;
  }
  [[nodiscard]] HttpResponse take() {
    std::function<HttpResponse()> made;
    {
      const std::lock_guard lock(mutex);
      made = std::move(make);
    }
    return made ? made() : HttpResponse{.status = MHD_HTTP_SERVICE_UNAVAILABLE};
  }
};

void HttpReply::send(std::function<HttpResponse()> make) const {
  {
    const std::lock_guard lock(state_->mutex);
    if (std::exchange(state_->sent, true)) return;
    state_->make = std::move(make);
  }
  eventfd_write(state_->wake->get(), 1);
}

void HttpReply::send(HttpResponse response) const {
  send([response = std::move(response)] { return response; });
}

namespace {

/// One request and its answer.
struct Exchange {
  std::string body;
  std::shared_ptr<HttpReply::State> reply;
  bool too_long = false;
  bool asked = false;
};

struct Connected {
  int fd = -1;
  Clock::time_point since;  ///< it was accepted, its request was understood, or its last one was answered
  bool suspended = false;
  bool busy = false;  ///< a request has begun, and its answer is not out
};

struct Entrance {
  HttpHandler handler;
  std::shared_ptr<UniqueFd> wake;
  MHD_Daemon* daemon = nullptr;
  int epoll = -1;
  std::map<MHD_Connection*, Connected> connections;
  std::map<MHD_Connection*, std::shared_ptr<HttpReply::State>> waiting;  ///< suspended
};

HttpResponse no_answer() {
  return {.status = MHD_HTTP_SERVICE_UNAVAILABLE,
          .body =
              "{\"ok\":false,\"errors\":[\"the instance is too busy to answer; what was ordered may still be done: "
              "see its log\"]}\n"};
}

HttpResponse too_long_answer() {
  return {.status = MHD_HTTP_CONTENT_TOO_LARGE, .body = "{\"ok\":false,\"errors\":[\"the body is too long\"]}\n"};
}

MHD_Result respond(MHD_Connection* connection, const HttpResponse& answer) {
  std::string body = answer.body;  // the library wants it writable, and copies it
  MHD_Response* response = MHD_create_response_from_buffer(body.size(), body.data(), MHD_RESPMEM_MUST_COPY);
  if (response == nullptr) return MHD_NO;
  MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer.content_type.c_str());
  MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
  MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
  MHD_add_response_header(response, "Cross-Origin-Resource-Policy", "same-origin");
  for (const auto& [name, value] : answer.headers) MHD_add_response_header(response, name.c_str(), value.c_str());
  const MHD_Result queued = MHD_queue_response(connection, answer.status, response);
  MHD_destroy_response(response);
  return queued;
}

std::optional<HttpPeer> peer_of(int fd) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  constexpr auto kNobody = static_cast<uid_t>(-1);  // of a TCP socket
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0 || credentials.uid == kNobody)
    return std::nullopt;
  return HttpPeer{.pid = credentials.pid, .uid = credentials.uid};
}

/// Empty for anything but TCP.
std::string text_of(const sockaddr_storage& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const void* bytes = nullptr;
  // NOLINTBEGIN(cppcoreguidelines-pro-type-reinterpret-cast): the way to read a sockaddr_storage
  if (address.ss_family == AF_INET) bytes = &reinterpret_cast<const sockaddr_in*>(&address)->sin_addr;
  if (address.ss_family == AF_INET6) bytes = &reinterpret_cast<const sockaddr_in6*>(&address)->sin6_addr;
  // NOLINTEND(cppcoreguidelines-pro-type-reinterpret-cast)
  if (bytes == nullptr || inet_ntop(address.ss_family, bytes, text.data(), text.size()) == nullptr) return {};
  return text.data();
}

void note_addresses(int fd, HttpRequest& request) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  // NOLINTBEGIN(cppcoreguidelines-pro-type-reinterpret-cast): what these calls ask for
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0) request.from = text_of(address);
  address = {};
  length = sizeof address;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0) request.at = text_of(address);
  // NOLINTEND(cppcoreguidelines-pro-type-reinterpret-cast)
}

MHD_Result add_header(void* closure, MHD_ValueKind /*kind*/, const char* key, std::size_t key_size, const char* value,
                      std::size_t value_size) {
  auto& headers = *static_cast<std::map<std::string, std::string, std::less<>>*>(closure);
  std::string name = ascii_lower(std::string_view(key, key_size));
  const std::string_view text = value == nullptr ? std::string_view() : std::string_view(value, value_size);
  const auto [place, is_new] = headers.try_emplace(std::move(name), text);
  if (!is_new) place->second.append(", ").append(text);
  return MHD_YES;
}

MHD_Result add_argument(void* closure, MHD_ValueKind /*kind*/, const char* key, std::size_t key_size, const char* value,
                        std::size_t value_size) {
  auto& arguments = *static_cast<std::map<std::string, std::string, std::less<>>*>(closure);
  arguments.insert_or_assign(std::string(key, key_size),
                             value == nullptr ? std::string() : std::string(value, value_size));
  return MHD_YES;
}

MHD_Result answer_or_wait(Entrance& entrance, MHD_Connection* connection, Exchange& exchange) {
  if (exchange.reply->is_sent()) return respond(connection, exchange.reply->take());
  entrance.waiting[connection] = exchange.reply;
  auto& connected = entrance.connections[connection];
  connected.suspended = true;
  connected.since = Clock::now();
  MHD_suspend_connection(connection);
  return MHD_YES;
}

MHD_Result take_request(Entrance& entrance, MHD_Connection* connection, const char* path, const char* method,
                        Exchange& exchange) {
  if (exchange.asked) return answer_or_wait(entrance, connection, exchange);
  exchange.asked = true;
  if (exchange.too_long) return respond(connection, too_long_answer());
  HttpRequest request{.method = method, .path = path, .arguments = {}, .body = std::move(exchange.body), .peer = {}};
  if (request.method == "HEAD") request.method = "GET";  // the library leaves the body out
  MHD_get_connection_values_n(connection, MHD_GET_ARGUMENT_KIND, add_argument, &request.arguments);
  MHD_get_connection_values_n(connection, MHD_HEADER_KIND, add_header, &request.headers);
  const int fd = entrance.connections[connection].fd;
  request.peer = peer_of(fd);
  note_addresses(fd, request);
  exchange.reply = std::make_shared<HttpReply::State>();
  exchange.reply->wake = entrance.wake;
  entrance.handler(request, HttpReply(exchange.reply));
  return answer_or_wait(entrance, connection, exchange);
}

// The library's names for its arguments; it is C, so nothing may be thrown through it.
MHD_Result on_request(void* closure, MHD_Connection* connection, const char* path, const char* method,
                      const char* /*version*/, const char* upload, std::size_t* upload_size, void** own) {
  try {
    if (*own == nullptr) {
      static_cast<Entrance*>(closure)->connections[connection].busy = true;
      *own = std::make_unique<Exchange>().release();
      return MHD_YES;
    }
    auto& exchange = *static_cast<Exchange*>(*own);
    if (*upload_size > 0) {
      exchange.too_long = exchange.too_long || exchange.body.size() + *upload_size > HttpServer::kMostBodyBytes;
      if (!exchange.too_long) exchange.body.append(upload, *upload_size);
      *upload_size = 0;
      return MHD_YES;
    }
    return take_request(*static_cast<Entrance*>(closure), connection, path, method, exchange);
  } catch (const std::exception&) {
    return MHD_NO;  // closes the connection
  }
}

void on_completed(void* closure, MHD_Connection* connection, void** own, MHD_RequestTerminationCode /*how*/) {
  const std::unique_ptr<Exchange> gone(static_cast<Exchange*>(*own));
  *own = nullptr;
  auto& entrance = *static_cast<Entrance*>(closure);
  entrance.waiting.erase(connection);
  if (const auto found = entrance.connections.find(connection); found != entrance.connections.end()) {
    found->second.since = Clock::now();
    found->second.busy = false;
  }
}

void on_connection(void* closure, MHD_Connection* connection, void** /*own*/, MHD_ConnectionNotificationCode what) {
  auto& entrance = *static_cast<Entrance*>(closure);
  if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
    entrance.connections.erase(connection);
    entrance.waiting.erase(connection);
    return;
  }
  const auto* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  if (info != nullptr) entrance.connections[connection] = {.fd = info->connect_fd, .since = Clock::now()};
}

/// What garbage of clients made the library say is of no use to anybody.
void say_nothing(void* /*closure*/, const char* /*format*/, va_list /*values*/) {}

}  // namespace

struct HttpServer::Inside {
  std::shared_ptr<UniqueFd> wake;
  std::chrono::milliseconds longest_wait{};
  std::vector<std::unique_ptr<Entrance>> entrances;
  std::jthread thread;
  std::atomic<bool> retires{false};
  std::atomic<bool> retired{false};  ///< nobody waits for an answer any more

  Inside() = default;
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;
  Inside(Inside&&) = delete;
  Inside& operator=(Inside&&) = delete;
  ~Inside() {
    if (thread.joinable()) {
      thread.request_stop();
      eventfd_write(wake->get(), 1);
      thread.join();
    }
    for (const auto& entrance : entrances) {
      // The library wants nobody suspended when it stops.
      for (const auto& [connection, reply] : entrance->waiting) MHD_resume_connection(connection);
      entrance->waiting.clear();
      if (entrance->daemon != nullptr) MHD_stop_daemon(entrance->daemon);
    }
  }

  [[nodiscard]] Status open(HttpDoor door) {
    auto entrance = std::make_unique<Entrance>();
    entrance->handler = std::move(door.handler);
    entrance->wake = wake;
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-vararg): the library's way to be told
    entrance->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, nullptr, nullptr, on_request, entrance.get(),
        MHD_OPTION_EXTERNAL_LOGGER, say_nothing, nullptr, MHD_OPTION_LISTEN_SOCKET, door.listener.get(),
        MHD_OPTION_CONNECTION_LIMIT, door.most_connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
        door.most_for_one_address, MHD_OPTION_CONNECTION_TIMEOUT, static_cast<unsigned>(kPatience.count()),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, kMostConnectionBytes, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, entrance.get(), MHD_OPTION_NOTIFY_CONNECTION, on_connection,
        entrance.get(), MHD_OPTION_END);
    if (entrance->daemon == nullptr) return system_error(errno, "start", "the control API");
    std::ignore = door.listener.release();  // MHD_stop_daemon() closes it
    const auto* info = MHD_get_daemon_info(entrance->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    entrance->epoll = info != nullptr ? info->epoll_fd : -1;
    entrances.push_back(std::move(entrance));
    return {};
  }

  void work(const std::stop_token& stopped) {
    std::vector<pollfd> wanted{{.fd = wake->get(), .events = POLLIN, .revents = 0}};
    for (const auto& entrance : entrances) wanted.push_back({.fd = entrance->epoll, .events = POLLIN, .revents = 0});
    bool closed = false;
    while (!stopped.stop_requested()) {
      poll(wanted.data(), wanted.size(), patience());  // a tick at most, while anybody is connected
      eventfd_t ignored = 0;
      if (wanted[0].revents != 0) eventfd_read(wake->get(), &ignored);
      if (retires.load() && !std::exchange(closed, true)) close_doors();
      for (const auto& entrance : entrances) {
        give_up_waiting(*entrance);
        resume_answered(*entrance);
        end_overdue(*entrance);
        // At its limit of connections the library stops to accept, and begins again with the next run behind the end of one: nothing else may wake us for it.
        std::size_t before = 0;
        do {
          before = entrance->connections.size();
          MHD_run(entrance->daemon);
        } while (entrance->connections.size() < before);
      }
      if (closed && !is_busy()) retired.store(true);
    }
  }

  /// Whoever has connected by now, and was not accepted, is accepted by whoever else has the listener.
  void close_doors() const {
    for (const auto& entrance : entrances) {
      const UniqueFd listener(MHD_quiesce_daemon(entrance->daemon));
    }
  }

  [[nodiscard]] bool is_busy() const {
    return std::ranges::any_of(entrances, [](const auto& entrance) {
      return std::ranges::any_of(entrance->connections, [](const auto& one) { return one.second.busy; });
    });
  }

  [[nodiscard]] int patience() const {
    int least = -1;
    for (const auto& entrance : entrances) {
      MHD_UNSIGNED_LONG_LONG wait = 0;
      if (MHD_get_timeout(entrance->daemon, &wait) == MHD_YES)
        least = static_cast<int>(std::min<MHD_UNSIGNED_LONG_LONG>(wait, kTickMs));
      if (least == 0) return 0;
      if (least < 0 && !entrance->connections.empty()) least = kTickMs;
    }
    return least;
  }

  /// Whoever replies later finds that it has been done.
  void give_up_waiting(const Entrance& entrance) const {
    const auto now = Clock::now();
    for (const auto& [connection, reply] : entrance.waiting) {
      const auto connected = entrance.connections.find(connection);
      if (connected != entrance.connections.end() && now - connected->second.since > longest_wait)
        HttpReply(reply).send(no_answer());
    }
  }

  static void resume_answered(Entrance& entrance) {
    const auto now = Clock::now();
    std::erase_if(entrance.waiting, [&](const auto& one) {
      if (!one.second->is_sent()) return false;
      auto& connected = entrance.connections[one.first];
      connected.suspended = false;
      connected.since = now;
      MHD_resume_connection(one.first);
      return true;
    });
  }

  /// The library then sees an end, and closes.
  static void end_overdue(const Entrance& entrance) {
    const auto now = Clock::now();
    for (const auto& [connection, connected] : entrance.connections) {
      if (!connected.suspended && now - connected.since > kPatience) ::shutdown(connected.fd, SHUT_RDWR);
    }
  }
};

HttpServer::HttpServer(std::unique_ptr<Inside> inside) noexcept : inside_(std::move(inside)) {}
HttpServer::~HttpServer() = default;

void HttpServer::retire() {
  constexpr std::chrono::milliseconds kMost{1000};
  constexpr int kPollMs = 5;
  inside_->retires.store(true);
  const auto until = Clock::now() + kMost;
  while (!inside_->retired.load() && Clock::now() < until) {
    eventfd_write(inside_->wake->get(), 1);
    poll(nullptr, 0, kPollMs);
  }
}

Result<std::unique_ptr<HttpServer>> HttpServer::start(std::vector<HttpDoor> doors,
                                                      std::chrono::milliseconds longest_wait) {
  auto inside = std::make_unique<Inside>();
  inside->longest_wait = longest_wait;
  inside->wake = std::make_shared<UniqueFd>(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!inside->wake->valid()) return system_error(errno, "create eventfd", "");
  for (HttpDoor& door : doors) {
    if (auto opened = inside->open(std::move(door)); !opened) return std::unexpected(opened.error());
  }
  inside->thread = std::jthread([own = inside.get()](const std::stop_token& stopped) { own->work(stopped); });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(inside)));
}

}  // namespace limpid
