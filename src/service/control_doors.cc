// Plain sockets: nothing of them is transparent.
#include "service/control_doors.h"

#include <sys/socket.h>

#include <cerrno>

#include "limpid/transparent.h"
#include "service/predecessor.h"

namespace limpid {
namespace {

constexpr int kBacklog = 16;

Result<UniqueFd> listen_on(std::string_view flag, const SocketAddress& address) {
  sockaddr_storage native{};
  const socklen_t length = address.to_native(native);
  const std::string object = address.to_string();
  UniqueFd listener(::socket(native.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return system_error(errno, flag, object);
  const int yes = 1;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): what bind(2) asks for
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&native), length) != 0 ||
      ::listen(listener.get(), kBacklog) != 0) {
    return system_error(errno, flag, object, "give another address or port of this host");
  }
  return listener;
}

/// With the port that the kernel has chosen, where it was to.
std::string address_of(const UniqueFd& listener, const SocketAddress& wanted) {
  return original_destination(listener.get()).value_or(wanted).to_string();  // getsockname(2)
}

/// As it is, where a predecessor has it open; otherwise opened.
Result<UniqueFd> take_or_listen(UniqueFd taken, std::string_view flag, const SocketAddress& address) {
  if (taken.valid()) return taken;
  return listen_on(flag, address);
}

Result<ControlSocket> take_or_open(UniqueFd taken, const std::string& path) {
  if (taken.valid()) return ControlSocket::adopt(path, std::move(taken));
  return ControlSocket::open(path);
}

Result<DashboardEntrance> open_dashboard(const DashboardSettings& settings, Predecessor* predecessor) {
  DashboardEntrance entrance;
  // A name of its own means a proxy before us: then whoever asks from loopback need not be of this host.
  entrance.admission.reads_need_token = !settings.address.address.is_loopback() || !settings.hosts.empty();
  entrance.admission.hosts = settings.hosts;
  if (!settings.token_file.empty()) {
    auto token = SecretToken::read(settings.token_file);
    if (!token) return std::unexpected(std::move(token.error()));
    entrance.admission.token = std::move(*token);
  }
  auto listener = take_or_listen(predecessor != nullptr ? predecessor->take_dashboard(settings.address) : UniqueFd(),
                                 "--dashboard", settings.address);
  if (!listener) return std::unexpected(std::move(listener.error()));
  entrance.address = address_of(*listener, settings.address);
  entrance.listener = std::move(*listener);
  return entrance;
}

}  // namespace

Result<ControlDoors> open_control_doors(const RelaySettings& settings, const std::string& instance, const Logger& log,
                                        Predecessor* predecessor) {
  ControlDoors doors;
  if (settings.metrics) {
    auto listener = take_or_listen(predecessor != nullptr ? predecessor->take_metrics(*settings.metrics) : UniqueFd(),
                                   "--metrics", *settings.metrics);
    if (!listener) return std::unexpected(listener.error());
    doors.metrics_address = address_of(*listener, *settings.metrics);
    doors.metrics = std::move(*listener);
  }
  if (settings.dashboard) {
    auto entrance = open_dashboard(*settings.dashboard, predecessor);
    if (!entrance) return std::unexpected(entrance.error());
    doors.dashboard = std::move(*entrance);
    log.info("dashboard", {field("url", "http://" + doors.dashboard->address + "/"),
                           field("changes", doors.dashboard->admission.token ? "with the token" : "no")});
  }
  const bool by_default = settings.control.empty();
  if (settings.control == "none" || (by_default && instance.empty())) return doors;
  const std::string path = by_default ? default_control_path(instance) : settings.control;
  auto socket = take_or_open(predecessor != nullptr ? predecessor->take_control(path) : UniqueFd(), path);
  if (socket) {
    doors.socket.emplace(std::move(*socket));
  } else if (!by_default) {
    Error error = std::move(socket.error());
    error.operation = "--control: " + error.operation;
    return std::unexpected(std::move(error));
  } else {
    log.warning("no control socket: limpid status, flows, reload and others will not work",
                {field("error", socket.error().message())});
  }
  return doors;
}

}  // namespace limpid
