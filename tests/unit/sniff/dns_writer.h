// Writes DNS messages for tests, also such as no server would: names with pointers anywhere, counts that do not fit.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace limpid::dns_test {

constexpr unsigned kA = 1;
constexpr unsigned kCname = 5;
constexpr unsigned kAaaa = 28;
constexpr unsigned kAnswer = 0x8180;  ///< QR, RD, RA

class Writer {
 public:
  Writer(unsigned id, unsigned flags, unsigned questions, unsigned answers) {
    for (const unsigned each : {id, flags, questions, answers, 0U, 0U}) number(each, 2);
  }
  Writer& number(std::uint64_t value, unsigned bytes) {
    for (unsigned i = bytes; i-- > 0;) bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
    return *this;
  }
  Writer& name(std::string_view text) {
    labels(text);
    return number(0, 1);
  }
  Writer& labels(std::string_view text) {
    while (!text.empty()) {
      const auto label = text.substr(0, text.find('.'));
      number(label.size(), 1);
      for (const char c : label) bytes_.push_back(static_cast<std::byte>(c));
      text.remove_prefix(std::min(label.size() + 1, text.size()));
    }
    return *this;
  }
  Writer& pointer(std::size_t to) { return number(0xc000U | to, 2); }
  Writer& question(std::string_view text, unsigned type) { return name(text).number(type, 2).number(1, 2); }
  /// Behind the owner's name.
  Writer& record(unsigned type, std::uint32_t ttl, const std::vector<unsigned>& data) {
    number(type, 2).number(1, 2).number(ttl, 4).number(data.size(), 2);
    for (const unsigned byte : data) number(byte, 1);
    return *this;
  }
  Writer& alias(std::string_view owner, std::uint32_t ttl, std::string_view target) {
    name(owner).number(kCname, 2).number(1, 2).number(ttl, 4).number(target.size() + 2, 2);
    return name(target);
  }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }
  [[nodiscard]] const std::vector<std::byte>& bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

inline std::vector<std::byte> query(unsigned id, std::string_view name, unsigned type = kA) {
  return Writer(id, 0x0100, 1, 0).question(name, type).bytes();
}

/// 192.0.2.N and so on, or 2001:db8::N.
inline std::vector<std::byte> answer(unsigned id, std::string_view name, std::initializer_list<unsigned> hosts,
                                     unsigned type = kA, std::uint32_t ttl = 300) {
  Writer writer(id, kAnswer, 1, static_cast<unsigned>(hosts.size()));
  writer.question(name, type);
  for (const unsigned host : hosts) {
    writer.pointer(12);
    if (type == kA) {
      writer.record(kA, ttl, {192, 0, 2, host});
    } else {
      writer.record(kAaaa, ttl, {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host});
    }
  }
  return writer.bytes();
}

}  // namespace limpid::dns_test
