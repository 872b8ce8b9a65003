// Token buckets that count in milliseconds, as net/ipv4/inetpeer.c has them.
#include "relay/icmp_limit.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "net/sysctl.h"

namespace limpid {
namespace {

constexpr std::uint64_t kBurstOfHost = 6;    // XRLIM_BURST_FACTOR
constexpr std::uint64_t kIntervalOfAll = 1;  // net.ipv4.icmp_msgs_per_sec, 1,000 before Linux 6.13
constexpr std::uint64_t kBurstOfAll = 50;    // net.ipv4.icmp_msgs_burst

std::uint64_t read_milliseconds(std::string_view key, std::uint64_t otherwise) {
  const auto text = read_sysctl(key);
  std::uint64_t value = otherwise;
  if (text) std::from_chars(text->data(), text->data() + text->size(), value);
  return value;
}

}  // namespace

IcmpIntervals read_icmp_intervals() {
  IcmpIntervals intervals;
  intervals.ipv4_ms = read_milliseconds("net.ipv4.icmp_ratelimit", intervals.ipv4_ms);
  intervals.ipv6_ms = read_milliseconds("net.ipv6.icmp.ratelimit", intervals.ipv6_ms);
  return intervals;
}

IcmpLimit::IcmpLimit(const IcmpIntervals& intervals, std::uint64_t seed) noexcept
    : intervals_(intervals), seed_(seed) {}

bool IcmpLimit::Bucket::has_token(std::uint64_t interval_ms, std::uint64_t burst, std::uint64_t now_ms) noexcept {
  const std::uint64_t most = interval_ms * burst;
  tokens_ms = used ? std::min(most, tokens_ms + (now_ms - last_ms)) : most;
  used = true;
  last_ms = now_ms;
  return tokens_ms >= interval_ms;
}

bool IcmpLimit::allow(const IpAddress& to, std::uint64_t now_ms) noexcept {
  const std::uint64_t interval = to.family() == Family::ipv4 ? intervals_.ipv4_ms : intervals_.ipv6_ms;
  std::array<std::uint64_t, 2> words{};
  std::memcpy(words.data(), to.bytes().data(), sizeof words);
  // The upper bits of a product depend on all bits of its factors.
  const std::uint64_t mixed = (words[0] ^ seed_) * 0x9e3779b97f4a7c15ULL + words[1] + to.bits();
  Bucket& host = hosts_[(((mixed ^ (mixed >> 32U)) * 0x94d049bb133111ebULL) >> 56U) % hosts_.size()];
  if (!host.has_token(interval, kBurstOfHost, now_ms) || !all_.has_token(kIntervalOfAll, kBurstOfAll, now_ms)) {
    return false;
  }
  host.tokens_ms -= interval;
  all_.tokens_ms -= kIntervalOfAll;
  return true;
}

}  // namespace limpid
