// Waits for each message with a patience of its own: a predecessor that hangs must not leave a second process behind for ever.
#include "service/predecessor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <span>
#include <tuple>
#include <utility>

#include "base/confinement.h"
#include "limpid/transparent.h"
#include "service/successor.h"

namespace limpid {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kPatience{30};
constexpr std::chrono::seconds kFarewellPatience{3};

std::unexpected<Error> nonsense() {
  return failure("take over", "from the running instance", "what it has sent makes no sense", "restart instead");
}

/// Why nothing comes from it, or goes to it.
std::unexpected<Error> lost(Error error) {
  if (error.code == EPIPE || error.code == ECONNRESET)
    return failure("take over", "from the running instance", "it has ended");
  return std::unexpected(std::move(error));
}

/// What else it may have said.
std::unexpected<Error> unexpected_message(std::span<const std::byte> packet) {
  const auto why = read_refusal(packet);
  return why ? failure("take over", "from the running instance", *why) : nonsense();
}

std::unexpected<Error> needs_restart(std::string_view what, std::string_view was, std::string_view wanted) {
  return failure("upgrade", what, fmt::format("it is {} in the running instance, and would be {}", was, wanted),
                 "it cannot be changed by an upgrade: put the old value back, or restart");
}

/// The descriptor that a variable of the environment names, and the variable is gone. Invalid where there is none.
Result<UniqueFd> take_descriptor(const char* variable) {
  // NOLINTBEGIN(concurrency-mt-unsafe): the process has one thread yet
  const char* const given = std::getenv(variable);
  const std::string text = given != nullptr ? given : "";
  unsetenv(variable);
  // NOLINTEND(concurrency-mt-unsafe)
  if (text.empty()) return UniqueFd();
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const bool is_number = error == std::errc{} && end == text.data() + text.size() && number > STDERR_FILENO;
  if (!is_number || fcntl(number, F_SETFD, FD_CLOEXEC) != 0)
    return usage_error(variable, text, "not a descriptor", "unset it: a running instance sets it for its successor");
  return UniqueFd(number);
}

bool is_address_of(std::string_view bound, const SocketAddress& wanted) {
  const auto has = SocketAddress::parse(bound);
  return has && has->address == wanted.address && (wanted.port.value == 0 || has->port == wanted.port);
}

/// Which families there are listeners for, in the order in which they are opened.
std::vector<Family> families_of(const std::vector<UniqueFd>& listeners) {
  std::vector<Family> families;
  for (const UniqueFd& each : listeners) {
    const auto bound = original_destination(each.get());  // getsockname(2)
    if (bound) families.push_back(bound->family());
  }
  return families;
}

std::string in_words(const std::vector<Family>& families) {
  std::string text;
  for (const Family family : families) text += fmt::format("{}{}", text.empty() ? "" : " and ", to_string(family));
  return text.empty() ? "off" : text;
}

}  // namespace

Result<std::optional<Predecessor>> Predecessor::find() {
  auto socket = take_descriptor(kHandoverVariable);
  if (!socket) return std::unexpected(socket.error());
  auto rules_lock = take_descriptor(kRulesLockVariable);
  if (!rules_lock) return std::unexpected(rules_lock.error());
  if (!socket->valid()) return std::nullopt;
  auto channel = DescriptorChannel::adopt(std::move(*socket), find_service_user().user);
  if (!channel) return std::unexpected(channel.error());
  Predecessor predecessor(std::move(*channel), std::move(*rules_lock));
  if (auto heard = predecessor.hear_of_instance(); !heard) return std::unexpected(heard.error());
  return std::optional<Predecessor>(std::move(predecessor));
}

Status Predecessor::hear_of_instance() {
  const auto deadline = Clock::now() + kPatience;
  if (auto sent = channel_.send(hello_message(), {}, deadline); !sent) return lost(sent.error());
  auto packet = channel_.receive(deadline);
  if (!packet) return lost(packet.error());
  auto instance = read_instance(packet->bytes);
  if (!instance || packet->descriptors.size() != instance->descriptors()) return nonsense();
  instance_ = std::move(*instance);
  auto next = packet->descriptors.begin();
  lock_ = std::move(*next++);
  if (!instance_.control_path.empty()) control_ = std::move(*next++);
  if (!instance_.metrics_address.empty()) metrics_ = std::move(*next++);
  if (!instance_.dashboard_address.empty()) dashboard_ = std::move(*next++);
  for (std::uint32_t worker = 0; worker < instance_.workers; ++worker) {
    auto own = channel_.receive(deadline);
    if (!own) return lost(own.error());
    const auto listeners = read_listeners(own->bytes);
    if (!listeners || listeners->worker != worker ||
        own->descriptors.size() != std::size_t{listeners->tcp} + listeners->udp) {
      return nonsense();
    }
    WorkerListeners taken;
    const auto udp = own->descriptors.begin() + listeners->tcp;
    taken.tcp.assign(std::make_move_iterator(own->descriptors.begin()), std::make_move_iterator(udp));
    taken.udp.assign(std::make_move_iterator(udp), std::make_move_iterator(own->descriptors.end()));
    listeners_.push_back(std::move(taken));
  }
  return {};
}

Result<UniqueFd> Predecessor::take_lock(const std::string& name) {
  if (name != instance_.name) return needs_restart("--name", instance_.name, name);
  return std::move(lock_);
}

Result<UniqueFd> Predecessor::take_rules_lock() {
  if (!rules_lock_.valid()) return nonsense();
  return std::move(rules_lock_);
}

Status Predecessor::check(const Numbers& numbers, Backend backend) const {
  if (backend != instance_.backend) return needs_restart("--backend", to_string(instance_.backend), to_string(backend));
  if (numbers.mark != instance_.mark)
    return needs_restart("--mark", instance_.mark.intercept_mark().to_string(),
                         numbers.mark.intercept_mark().to_string());
  if (numbers.table != instance_.table)
    return needs_restart("--table", std::to_string(instance_.table.value), std::to_string(numbers.table.value));
  if (numbers.priority != instance_.priority)
    return needs_restart("--priority", std::to_string(instance_.priority.value),
                         std::to_string(numbers.priority.value));
  return {};
}

Status Predecessor::check_cut_through(bool there) const {
  if (instance_.cut_through != 0 && !there) return needs_restart("--cut-through", "at work", "impossible");
  return {};
}

Result<unsigned> Predecessor::workers(unsigned wanted) const {
  if (wanted != 0 && wanted != instance_.workers)
    return needs_restart("--workers", std::to_string(instance_.workers), std::to_string(wanted));
  return instance_.workers;
}

Result<Listeners> Predecessor::take_listeners(const ListenerRequest& request) {
  Listeners taken{.port = instance_.listener, .addresses = {}, .per_worker = std::move(listeners_)};
  if (request.port.value != 0 && request.port != taken.port)
    return needs_restart("--listen-port", std::to_string(taken.port.value), std::to_string(request.port.value));
  std::vector<Family> wanted;
  if (request.ipv4) wanted.push_back(Family::ipv4);
  if (request.ipv6) wanted.push_back(Family::ipv6);
  for (const WorkerListeners& own : taken.per_worker) {
    const auto tcp = families_of(own.tcp);
    const auto udp = families_of(own.udp);
    if (tcp != (request.tcp ? wanted : std::vector<Family>()))
      return needs_restart("TCP", in_words(tcp), in_words(request.tcp ? wanted : std::vector<Family>()));
    if (udp != (request.udp ? wanted : std::vector<Family>()))
      return needs_restart("UDP", in_words(udp), in_words(request.udp ? wanted : std::vector<Family>()));
  }
  for (const Family family : wanted)
    taken.addresses.push_back({.address = IpAddress::loopback(family), .port = taken.port});
  return taken;
}

UniqueFd Predecessor::take_control(std::string_view wanted) {
  return instance_.control_path == wanted ? std::move(control_) : UniqueFd();
}

UniqueFd Predecessor::take_metrics(const SocketAddress& wanted) {
  return is_address_of(instance_.metrics_address, wanted) ? std::move(metrics_) : UniqueFd();
}

UniqueFd Predecessor::take_dashboard(const SocketAddress& wanted) {
  return is_address_of(instance_.dashboard_address, wanted) ? std::move(dashboard_) : UniqueFd();
}

Status Predecessor::take_over(Relay& relay) {
  if (auto sent = channel_.send(plain_message(HandoverMessage::ready), {}, Clock::now() + kPatience); !sent)
    return lost(sent.error());
  for (;;) {
    auto packet = channel_.receive(Clock::now() + kPatience);
    if (!packet) return lost(packet.error());
    if (const auto counts = read_counts(packet->bytes)) {
      for (const auto& [name, value] : counts->counters) relay.add_count(name, value);
      relay.note_counted_sessions(counts->sessions_without_us);
      continue;
    }
    if (const auto totals = read_totals(packet->bytes, HandoverMessage::end)) {
      const Adopted adopted = relay.adopted();
      // Of sessions, some may have nowhere to go here; each of the flows is there.
      if (!adopted.complete || adopted.flows != totals->flows || adopted.sessions > totals->sessions) return nonsense();
      if (auto sent = channel_.send(totals_message(HandoverMessage::taken, *totals), {}, Clock::now() + kPatience);
          !sent)
        return lost(sent.error());
      break;
    }
    if (kind_of(packet->bytes)) return unexpected_message(packet->bytes);
    if (auto adopted = relay.adopt(packet->bytes, packet->descriptors); !adopted) return adopted;
  }
  const auto go = channel_.receive(Clock::now() + kPatience);
  if (go) return is_plain(go->bytes, HandoverMessage::go) ? Status() : unexpected_message(go->bytes);
  // It has everything handed over and died before it could say so: nobody else has these flows now. One that lives and goes on by itself has
  // said so before it closed the channel.
  return go.error().code == EPIPE ? Status() : Status(std::unexpected(go.error()));
}

void Predecessor::refuse(const Error& error) const {
  std::ignore = channel_.send(refuse_message(error.message()), {}, Clock::now());
}

void Predecessor::say_serving() const {
  std::ignore = channel_.send(plain_message(HandoverMessage::serving), {}, Clock::now());
}

void Predecessor::await_farewell() const {
  std::ignore = channel_.receive(Clock::now() + kFarewellPatience);
}

}  // namespace limpid
