// A ring of questions, and the frames of a stream.
#include "relay/dns_watch.h"

#include <algorithm>
#include <functional>
#include <new>
#include <string_view>

#include "base/big_endian.h"

namespace limpid {
namespace {

constexpr std::size_t kLengthBytes = 2;

}  // namespace

bool DnsFrames::fill(std::span<const std::byte>& bytes) {
  const auto move = [&](std::size_t wanted) {
    const std::size_t count = std::min(wanted - std::min(wanted, partial_.size()), bytes.size());
    partial_.insert(partial_.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
    bytes = bytes.subspan(count);
    return partial_.size() >= wanted;
  };
  if (!move(kLengthBytes)) return false;
  const std::size_t length = big_endian16(partial_, 0);
  if (length > kMostBytes) {
    skipped_ = length;
    partial_.clear();
    return false;
  }
  return move(kLengthBytes + length);
}

template <class Use>
void DnsFrames::take(std::span<const std::byte> bytes, Use use) {
  while (!bytes.empty()) {
    const std::size_t passed_over = std::min(skipped_, bytes.size());
    skipped_ -= passed_over;
    bytes = bytes.subspan(passed_over);
    if (!fill(bytes)) continue;
    use(std::span<const std::byte>(partial_).subspan(kLengthBytes));
    partial_.clear();
  }
}

DnsWatch::Question DnsWatch::as_question(const DnsQuestion& question, const SocketAddress& target) noexcept {
  return {.name_hash = std::hash<std::string_view>()(question.name.view()),
          .target = target,
          .id = question.id,
          .ipv6 = question.ipv6,
          .open = true};
}

void DnsWatch::note_question(std::span<const std::byte> message, const SocketAddress& target) noexcept {
  DnsQuestion question;
  if (!read_dns_question(message, question)) return;
  open_.at(next_) = as_question(question, target);
  next_ = (next_ + 1) % open_.size();
}

bool DnsWatch::learn(std::span<const std::byte> message, const SocketAddress& from, const IpAddress& client,
                     std::uint64_t now_ms) noexcept {
  DnsAnswer answer;
  if (!read_dns_answer(message, answer)) return false;
  const auto asked = std::ranges::find(open_, as_question(answer.question, from));
  if (asked == open_.end()) return false;
  asked->open = false;
  hints_.learn(client, answer, now_ms);
  return true;
}

void DnsWatch::take_up(std::span<const std::byte> bytes, const SocketAddress& target) noexcept {
  if (lost_) return;
  try {
    up_.take(bytes, [&](std::span<const std::byte> message) { note_question(message, target); });
  } catch (const std::bad_alloc&) {
    lost_ = true;
  }
}

std::size_t DnsWatch::take_down(std::span<const std::byte> bytes, const SocketAddress& from, const IpAddress& client,
                                std::uint64_t now_ms) noexcept {
  std::size_t learnt = 0;
  if (lost_) return learnt;
  try {
    down_.take(bytes, [&](std::span<const std::byte> message) {
      if (learn(message, from, client, now_ms)) ++learnt;
    });
  } catch (const std::bad_alloc&) {
    lost_ = true;
  }
  return learnt;
}

}  // namespace limpid
