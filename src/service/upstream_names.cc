// A name server that rotates its answers is no news: as long as the address in use is among them, it stays.
#include "service/upstream_names.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "net/netlink.h"

namespace limpid {

Result<std::unique_ptr<UpstreamNames>> UpstreamNames::start(std::chrono::milliseconds interval,
                                                            std::optional<UnprivilegedUser> user, const Logger& log) {
  auto resolver = ResolverProcess::start({.names = {}, .known = {}, .interval = interval, .user = user});
  if (!resolver) return std::unexpected(resolver.error());
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return system_error(errno, "create eventfd", "");
  return std::unique_ptr<UpstreamNames>(new UpstreamNames(std::move(*resolver), std::move(wake), log));
}

UpstreamNames::~UpstreamNames() {
  thread_.request_stop();
  eventfd_write(wake_.get(), 1);
}

void UpstreamNames::follow(const std::shared_ptr<const UpstreamGroups>& groups, std::vector<SocketAddress> listeners) {
  {
    const std::lock_guard lock(mutex_);
    groups_ = groups;
    listeners_ = std::move(listeners);
    followed_.clear();
    for (const auto number : groups->at_work()) {
      UpstreamGroup& group = groups->at(number);
      for (unsigned i = 0; i < group.options().members.size(); ++i) {
        const Upstream& member = group.member(i);
        if (is_named(member))
          followed_.push_back({.group = &group, .member = i, .name = {.host = member.host, .port = member.port}});
      }
    }
    ++edition_;
    told_ = 0;
    telling_ = true;
  }
  if (thread_.joinable()) {
    eventfd_write(wake_.get(), 1);
  } else {
    thread_ = std::jthread([this](const std::stop_token& stopped) { work(stopped); });
  }
}

/// As many as the channel takes; true when there are more. An empty list has to be told as well.
bool UpstreamNames::tell_names() {
  const std::lock_guard lock(mutex_);
  while (telling_) {
    const bool none = followed_.empty();
    if (!resolver_.tell(edition_, told_, followed_.size(), none ? TargetName{} : followed_[told_].name)) return true;
    telling_ = !none && ++told_ < followed_.size();
  }
  return false;
}

void UpstreamNames::work(const std::stop_token& stopped) {
  for (;;) {
    const auto to_resolver = static_cast<std::int16_t>(tell_names() ? POLLIN | POLLOUT : POLLIN);
    std::array<pollfd, 2> wanted{pollfd{wake_.get(), POLLIN, 0}, pollfd{resolver_.descriptor(), to_resolver, 0}};
    poll(wanted.data(), wanted.size(), -1);
    if (stopped.stop_requested()) return;
    if (wanted[0].revents != 0) {
      eventfd_t ignored = 0;
      eventfd_read(wake_.get(), &ignored);
    }
    if ((wanted[1].revents & ~POLLOUT) == 0) continue;
    const auto news = resolver_.next();
    if (!news) {
      log_.warning("names of upstreams are not looked up any more", {field("error", news.error().message())});
      return;
    }
    if (*news) take(**news);
  }
}

void UpstreamNames::take(const ResolverNews& news) {
  const std::lock_guard lock(mutex_);
  if (news.edition != edition_ || news.name >= followed_.size()) return;
  const Followed& followed = followed_[news.name];
  const Upstream& upstream = followed.group->member(followed.member);
  const std::vector<Field> who{field("upstream", upstream.name), field("group", followed.group->options().name)};
  const auto say = [&](std::string_view message, std::string_view key, std::string_view value) {
    std::vector<Field> fields = who;
    fields.push_back(field(key, value));
    log_.warning(message, fields);
  };
  if (news.addresses.empty())
    return say("an upstream's name cannot be resolved: its address stays as it was", "error", news.problem);
  auto host = own_addresses();
  const OwnAddresses own{.listeners = listeners_, .host = host ? std::move(*host) : std::vector<IpAddress>()};
  std::vector<SocketAddress> possible;
  for (const auto& address : news.addresses) {
    const bool fits = !upstream.source || upstream.source->family() == address.family();
    if (fits && (followed.group->via() != nullptr || !reaches_ourselves(address, own))) possible.push_back(address);
  }
  if (possible.empty())
    return say("an upstream's name means nobody who could be dialled: its address stays as it was", "address",
               news.addresses.front().to_string());
  const UpstreamServer* before = followed.group->server(followed.member);
  if (before != nullptr && std::ranges::find(possible, before->address) != possible.end()) return;
  const SocketAddress& next = possible.front();
  const bool local = next.address.is_loopback() || std::ranges::find(own.host, next.address) != own.host.end();
  if (!followed.group->move_server(followed.member, {.address = next, .on_this_host = local})) return;
  std::vector<Field> fields = who;
  fields.push_back(field("address", next.to_string()));
  log_.info("an upstream's name means another address", fields);
}

}  // namespace limpid
