// Names are taken out of the message each time they are compared, instead of being kept: an answer has few records, and then nothing has to be allocated. What a call costs is
// bounded by the numbers of records, aliases, and pointers of one name.
#include "sniff/dns_message.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "base/big_endian.h"
#include "sniff/parsers.h"

namespace limpid {
namespace {

constexpr std::size_t kHeaderBytes = 12;
constexpr std::uint16_t kTypeA = 1;
constexpr std::uint16_t kTypeCname = 5;
constexpr std::uint16_t kTypeAaaa = 28;
constexpr std::uint16_t kClassIn = 1;
/// Of one name: real ones have one or two. Each has to lead further back than the one before, so there is no circle, but it could be a long way.
constexpr unsigned kMostPointers = 16;

/// RFC 1035 section 3.1, without pointers, in lower case: 255 bytes at most.
class WireName {
 public:
  static constexpr std::size_t kMostBytes = 255;
  [[nodiscard]] bool append(std::span<const std::byte> label) noexcept {
    if (used_ + 1 + label.size() + 1 > kMostBytes) return false;
    bytes_.at(used_++) = static_cast<std::uint8_t>(label.size());
    for (const std::byte byte : label) {
      const auto value = std::to_integer<std::uint8_t>(byte);
      bytes_.at(used_++) = value >= 'A' && value <= 'Z' ? static_cast<std::uint8_t>(value - 'A' + 'a') : value;
    }
    return true;
  }
  /// As text; false: there is a byte in it that no host's name has.
  [[nodiscard]] bool as_host_name(HostName& name) const noexcept {
    std::array<char, kMostBytes> text{};
    std::size_t written = 0;
    for (std::size_t at = 0; at < used_; at += 1U + bytes_.at(at)) {
      if (written > 0) text.at(written++) = '.';
      for (std::size_t i = 1; i <= bytes_.at(at); ++i) {
        const char c = static_cast<char>(bytes_.at(at + i));
        if (c == '.') return false;  // it would look like two labels
        text.at(written++) = c;
      }
    }
    return name.assign_domain({text.data(), written});
  }
  bool operator==(const WireName& other) const noexcept {
    return std::ranges::equal(std::span(bytes_).first(used_), std::span(other.bytes_).first(other.used_));
  }

 private:
  std::array<std::uint8_t, kMostBytes> bytes_{};
  std::size_t used_ = 0;
};

struct Record {
  WireName owner;
  std::uint16_t type = 0;
  std::uint16_t of_class = 0;
  std::uint32_t ttl_seconds = 0;
  std::size_t data = 0;  ///< where it begins
  std::size_t data_bytes = 0;
};

class Message {
 public:
  explicit Message(std::span<const std::byte> bytes) noexcept : bytes_(bytes) {}

  [[nodiscard]] std::uint32_t number(std::size_t at, std::size_t count) const noexcept {
    const auto there = bytes_.subspan(std::min(at, bytes_.size()));
    return static_cast<std::uint32_t>(big_endian(there.first(std::min(count, there.size()))));
  }
  [[nodiscard]] std::uint16_t number16(std::size_t at) const noexcept {
    return static_cast<std::uint16_t>(number(at, 2));
  }
  [[nodiscard]] bool has(std::size_t at, std::size_t count) const noexcept {
    return at <= bytes_.size() && count <= bytes_.size() - at;
  }

  /// The name at `at`, which is moved behind it.
  [[nodiscard]] bool read_name(std::size_t& at, WireName& name) const noexcept {
    std::size_t place = at;
    std::size_t least = at;  // pointers lead before that (RFC 1035 section 4.1.4: to a prior occurrence)
    unsigned pointers = 0;
    for (;;) {
      if (!has(place, 1)) return false;
      const std::size_t length = number(place, 1);
      if ((length & 0xc0U) == 0xc0U) {
        if (!has(place, 2) || ++pointers > kMostPointers) return false;
        const std::size_t target = number(place, 2) & 0x3fffU;
        if (target >= least) return false;
        if (pointers == 1) at = place + 2;
        least = place = target;
        continue;
      }
      if (length > HostName::kMostLabelBytes || !has(place + 1, length)) return false;
      if (length == 0) {
        if (pointers == 0) at = place + 1;
        return true;
      }
      if (!name.append(bytes_.subspan(place + 1, length))) return false;
      place += 1 + length;
    }
  }

  [[nodiscard]] bool read_record(std::size_t& at, Record& record) const noexcept {
    constexpr std::size_t fixed_bytes = 10;
    if (!read_name(at, record.owner) || !has(at, fixed_bytes)) return false;
    record.type = number16(at);
    record.of_class = number16(at + 2);
    record.ttl_seconds = number(at + 4, 4);
    if ((record.ttl_seconds >> 31U) != 0) record.ttl_seconds = 0;  // RFC 2181 section 8
    record.data_bytes = number(at + 8, 2);
    record.data = at + fixed_bytes;
    at = record.data + record.data_bytes;
    return has(record.data, record.data_bytes);
  }

  [[nodiscard]] std::span<const std::byte> bytes(std::size_t at, std::size_t count) const noexcept {
    return bytes_.subspan(at, count);
  }

 private:
  std::span<const std::byte> bytes_;
};

/// QR set; opcode, TC and RCODE zero (RFC 1035 section 4.1.1); one question.
bool is_answer_header(const Message& message) noexcept {
  return message.has(0, kHeaderBytes) && (message.number16(2) & 0xfa0fU) == 0x8000U && message.number16(4) == 1;
}

/// Goes through the answers once. False: one of them is malformed.
template <class Take>
bool for_each_answer(const Message& message, std::size_t begin, Take take) noexcept {
  const std::size_t count = message.number16(6);
  std::size_t at = begin;
  for (std::size_t i = 0; i < count; ++i) {
    Record record;
    if (!message.read_record(at, record)) return false;
    if (record.of_class == kClassIn && !take(record)) return false;
  }
  return true;
}

/// Where `name` is an alias, the name that it is one for.
bool follow_alias(const Message& message, std::size_t answers, WireName& name, std::uint32_t& ttl_seconds,
                  bool& is_alias) noexcept {
  std::optional<WireName> canonical;
  const bool sound = for_each_answer(message, answers, [&](const Record& record) {
    if (record.type != kTypeCname || canonical || record.owner != name) return true;
    std::size_t at = record.data;
    WireName target;
    if (!message.read_name(at, target) || at != record.data + record.data_bytes) return false;
    canonical = target;
    ttl_seconds = std::min(ttl_seconds, record.ttl_seconds);
    return true;
  });
  is_alias = canonical.has_value();
  if (canonical) name = *canonical;
  return sound;
}

}  // namespace

bool read_dns_question(std::span<const std::byte> message, DnsQuestion& question) noexcept {
  Sniffed sniffed;
  if (sniff_dns_datagram(message, sniffed) != SniffOutcome::found || sniffed.name.empty()) return false;
  const Message query(message);
  // Each dot of the text is a length, and there are the first one's and the root's; the sniffer has seen that type and class are there.
  const std::size_t type = kHeaderBytes + sniffed.name.view().size() + 2;
  const std::uint16_t wanted = query.number16(type);
  if ((wanted != kTypeA && wanted != kTypeAaaa) || query.number16(type + 2) != kClassIn) return false;
  question = {.name = sniffed.name, .id = query.number16(0), .ipv6 = wanted == kTypeAaaa};
  return true;
}

bool read_dns_answer(std::span<const std::byte> message, DnsAnswer& answer) noexcept {
  const Message reply(message);
  if (!is_answer_header(reply) || reply.number16(6) > kMostDnsRecords) return false;
  std::size_t at = kHeaderBytes;
  WireName name;
  if (!reply.read_name(at, name) || !reply.has(at, 4) || !name.as_host_name(answer.question.name)) return false;
  const std::uint16_t wanted = reply.number16(at);
  if ((wanted != kTypeA && wanted != kTypeAaaa) || reply.number16(at + 2) != kClassIn) return false;
  answer.question.id = reply.number16(0);
  answer.question.ipv6 = wanted == kTypeAaaa;
  const std::size_t answers = at + 4;
  answer.ttl_seconds = UINT32_MAX;
  bool is_alias = true;
  for (std::size_t aliases = 0; is_alias; ++aliases) {
    if (aliases > kMostDnsAliases) return false;  // or in a circle
    if (!follow_alias(reply, answers, name, answer.ttl_seconds, is_alias)) return false;
  }
  const std::size_t address_bytes = answer.question.ipv6 ? 16 : 4;
  answer.count = 0;
  const bool sound = for_each_answer(reply, answers, [&](const Record& record) {
    if (record.type != wanted || record.owner != name) return true;
    if (record.data_bytes != address_bytes) return false;
    if (answer.count == answer.addresses.size()) return true;
    answer.ttl_seconds = std::min(answer.ttl_seconds, record.ttl_seconds);
    auto& address = answer.addresses.at(answer.count++);
    address.fill(0);
    std::ranges::transform(reply.bytes(record.data, address_bytes), address.begin(),
                           [](std::byte byte) { return std::to_integer<std::uint8_t>(byte); });
    return true;
  });
  return sound && answer.count > 0;
}

}  // namespace limpid
