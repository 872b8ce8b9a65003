// limpid nc: a netcat whose sockets may have foreign addresses. Here its parts meet: sockets first, then, only if
// --setup asks for it, the kernel's part; and that is removed on every way out.
#include <fmt/format.h>
#include <sys/signalfd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>

#include "cli/nc_flags.h"
#include "cli/verb.h"
#include "intercept/diversion.h"
#include "limpid/interception.h"
#include "netcat/call.h"
#include "netcat/serve.h"

namespace limpid {
namespace {

/// The signals that would end us without a chance to remove what --setup installed. Their descriptor becomes readable
/// instead, and stays so.
class HeldSignals {
 public:
  [[nodiscard]] static Result<HeldSignals> take() {
    sigset_t wanted;
    sigemptyset(&wanted);
    for (const int signal : {SIGINT, SIGTERM, SIGQUIT, SIGHUP}) {
      struct sigaction action{};
      sigaction(signal, nullptr, &action);
      if (action.sa_handler != SIG_IGN) sigaddset(&wanted, signal);  // nohup(1) asks us to live on
    }
    if (pthread_sigmask(SIG_BLOCK, &wanted, nullptr) != 0) return system_error(errno, "block signals", "");
    UniqueFd fd(signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!fd.valid()) return system_error(errno, "create signalfd", "");
    return HeldSignals(wanted, std::move(fd));
  }
  [[nodiscard]] int descriptor() const noexcept { return fd_.get(); }
  /// Ends the process by the signal that came, as it would have ended without us in between.
  void release() const { pthread_sigmask(SIG_UNBLOCK, &wanted_, nullptr); }

 private:
  HeldSignals(const sigset_t& wanted, UniqueFd fd) : wanted_(wanted), fd_(std::move(fd)) {}
  sigset_t wanted_;
  UniqueFd fd_;
};

/// What --setup installed. Its end removes it.
struct Installed {
  std::optional<Interception> interception;
  std::optional<Diversion> diversion;

  [[nodiscard]] Status remove() {
    auto first = interception ? interception->remove() : Status();
    auto second = diversion ? diversion->remove() : Status();
    return first ? second : first;
  }
};

bool wants_family(const NetcatOptions& options, Family family) {
  return !options.family || *options.family == family;
}

Result<Installed> install(const NcSetup& setup, const NetcatOptions& options, Port listener) {
  Installed installed;
  if (!setup.tcp.empty()) {
    InterceptionOptions wanted;
    wanted.name = setup.name;
    wanted.scope.tcp = setup.tcp;
    wanted.scope.ipv4 = wants_family(options, Family::ipv4);
    wanted.scope.ipv6 = wants_family(options, Family::ipv6);
    wanted.listener = listener;
    auto interception = Interception::install(wanted);
    if (!interception) return std::unexpected(interception.error());
    installed.interception = std::move(*interception);
    options.narrate(fmt::format("intercepting TCP {}", setup.tcp.to_string()));
    return installed;
  }
  DiversionOptions wanted{.name = setup.name,
                          .addresses = {},
                          .udp = setup.udp,
                          .listener = setup.udp.empty() ? Port{} : listener,
                          .ipv4 = wants_family(options, Family::ipv4),
                          .ipv6 = wants_family(options, Family::ipv6)};
  if (setup.udp.empty()) {
    const auto foreign = is_foreign(options.source->address);
    if (!foreign) return std::unexpected(foreign.error());
    if (!*foreign) {
      options.narrate(fmt::format("{} is this host's own: nothing to set up", options.source->address.to_string()));
      return installed;
    }
    wanted.addresses.push_back(options.source->address);
  }
  auto diversion = Diversion::install(wanted);
  if (!diversion) return std::unexpected(diversion.error());
  installed.diversion = std::move(*diversion);
  options.narrate(setup.udp.empty() ? fmt::format("diverting {}", options.source->address.to_string())
                                    : fmt::format("intercepting UDP {}", setup.udp.to_string()));
  return installed;
}

Result<Ending> converse(const NcRequest& request) {
  const NetcatOptions& options = request.netcat;
  NetcatListeners listeners;
  if (request.listen) {
    auto opened = open_netcat_listeners(options, request.setup && request.setup->intercepts());
    if (!opened) return std::unexpected(opened.error());
    listeners = std::move(*opened);
  }
  std::optional<Installed> installed;
  if (request.setup) {
    auto done = install(*request.setup, options, listeners.port);
    if (!done) return std::unexpected(done.error());
    installed = std::move(*done);
  }
  auto ending = request.listen ? serve(options, std::move(listeners)) : request.scan ? scan(options) : call(options);
  if (installed) {
    auto removed = installed->remove();
    if (ending && !removed) return std::unexpected(removed.error());
  }
  return ending;
}

int run(const NcFlags& flags) {
  auto request = parse_nc_flags(flags);
  if (!request) return report(request.error());
  request->netcat.narrate = [verbose = request->verbose](std::string_view line) {
    if (verbose) std::fputs(fmt::format("limpid nc: {}\n", line).c_str(), stderr);
  };
  // Whoever stops reading what we write is told of by the write itself.
  if (std::signal(SIGPIPE, SIG_IGN) == SIG_ERR) return report(system_error(errno, "ignore SIGPIPE", "").error());
  std::optional<HeldSignals> signals;
  if (request->setup) {
    auto held = HeldSignals::take();
    if (!held) return report(held.error());
    signals = std::move(*held);
    request->netcat.stop_fd = signals->descriptor();
  }
  const auto ending = converse(*request);
  if (!ending) return report(ending.error());
  if (signals && *ending == Ending::stopped) signals->release();
  return kExitDone;
}

}  // namespace

void add_nc_verb(CLI::App& app, Action& action) {
  auto* verb =
      app.add_subcommand("nc", "A netcat that can listen on and call from addresses that this host does not have");
  verb->footer(
      "Examples:\n"
      "  limpid nc -s 222.173.190.239 -p 51966 --setup 198.51.100.2 80\n"
      "  limpid nc -l -k -v --transparent -e cat 50080\n"
      "  limpid nc -l -v --setup --tcp 80");
  auto flags = std::make_shared<NcFlags>();
  add_nc_flags(*verb, *flags);
  verb->callback([flags, &action] { action = [flags] { return run(*flags); }; });
}

}  // namespace limpid
