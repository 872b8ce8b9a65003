// Plain sockets: nothing of them is transparent.
#include "service/control_doors.h"

#include <sys/socket.h>

#include <cerrno>

#include "limpid/transparent.h"

namespace limpid {
namespace {

constexpr int kBacklog = 16;

Result<UniqueFd> listen_on(const SocketAddress& address) {
  sockaddr_storage native{};
  const socklen_t length = address.to_native(native);
  const std::string object = address.to_string();
  UniqueFd listener(::socket(native.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.valid()) return system_error(errno, "--metrics", object);
  const int yes = 1;
  setsockopt(listener.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): what bind(2) asks for
  if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&native), length) != 0 ||
      ::listen(listener.get(), kBacklog) != 0) {
    return system_error(errno, "--metrics", object, "give another address or port of this host");
  }
  return listener;
}

}  // namespace

Result<ControlDoors> open_control_doors(const RelaySettings& settings, const std::string& instance, const Logger& log) {
  ControlDoors doors;
  if (settings.metrics) {
    auto listener = listen_on(*settings.metrics);
    if (!listener) return std::unexpected(listener.error());
    const auto bound = original_destination(listener->get());  // getsockname(2)
    doors.metrics_address = bound.value_or(*settings.metrics).to_string();
    doors.metrics = std::move(*listener);
  }
  const bool by_default = settings.control.empty();
  if (settings.control == "none" || (by_default && instance.empty())) return doors;
  auto socket = ControlSocket::open(by_default ? default_control_path(instance) : settings.control);
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
