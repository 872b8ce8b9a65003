// Token buckets: nothing is done between two requests.
#include "dashboard/attempt_limit.h"

#include <algorithm>

#include "limpid/prefix.h"

namespace limpid {
namespace {

constexpr unsigned kIpv6NetworkBits = 64;

std::string network_of(std::string_view address) {
  const auto parsed = IpAddress::parse(address);
  if (!parsed) return std::string(address);
  const IpAddress whole = parsed->unmapped();
  if (whole.is_loopback()) return "loopback";  // who is here has all of 127.0.0.0/8
  if (whole.family() == Family::ipv4) return whole.to_string();
  auto bytes = whole.bytes();
  std::fill(bytes.begin() + kIpv6NetworkBits / 8, bytes.end(), std::uint8_t{0});
  return IpAddress::from_bytes(Family::ipv6, bytes).to_string();
}

}  // namespace

double PermitStore::left_at(Clock::time_point now) const noexcept {
  const auto passed = std::chrono::duration<double>(now - since_);
  return std::min(most_, left_ + passed / std::chrono::duration<double>(interval_));
}

bool PermitStore::take(Clock::time_point now) noexcept {
  left_ = left_at(now);
  since_ = now;
  if (left_ < 1) return false;
  left_ -= 1;
  return true;
}

bool AttemptLimit::is_exhausted(std::string_view address, PermitStore::Clock::time_point now) {
  const auto found = stores_.find(network_of(address));
  return found != stores_.end() && found->second.permits.is_empty(now);
}

void AttemptLimit::note_wrong(std::string_view address, PermitStore::Clock::time_point now) {
  const std::string network = network_of(address);
  if (stores_.size() >= kMostAddresses && !stores_.contains(network)) {
    std::erase_if(stores_, [&](auto& each) { return each.second.permits.is_full(now); });
    if (stores_.size() >= kMostAddresses)
      stores_.erase(std::ranges::min_element(stores_, {}, [](const auto& each) { return each.second.last; }));
  }
  Store& store = stores_[network];
  std::ignore = store.permits.take(now);
  store.last = now;
}

}  // namespace limpid
