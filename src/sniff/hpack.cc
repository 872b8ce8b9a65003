// HPACK without remembering what nobody asks for: of a field only its length counts, and whether it is :authority or host.
//
// The dynamic table (RFC 7541 section 2.3.2) is that of a connection's first block, so it begins empty, and it has at most the 4,096 bytes
// that hold until a server has spoken: at 32 bytes and more for an entry these are 128. An entry is where its value stands in the block,
// not a copy. A value is decoded when its length is asked for, once, and when it is a name; a second name of the same sort is refused, so
// no reference can make work out of nothing.
#include "sniff/hpack.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "sniff/byte_reader.h"
#include "sniff/huffman.h"
#include "sniff/parsers.h"

namespace limpid {
namespace {

constexpr std::size_t kMostTableBytes = 4096;  // SETTINGS_HEADER_TABLE_SIZE, RFC 9113 section 6.5.2
constexpr std::size_t kEntryOverheadBytes = 32;
constexpr std::size_t kMostEntries = kMostTableBytes / kEntryOverheadBytes;
constexpr std::size_t kMostNumber = 1UL << 24U;
/// A host name with a port; longer ones are none.
constexpr std::size_t kMostAuthorityBytes = HostName::kMostBytes + 8;

/// RFC 7541 appendix A. The values of :authority and host are empty there.
constexpr std::array<std::string_view, 61> kStaticNames = {":authority",
                                                           ":method",
                                                           ":method",
                                                           ":path",
                                                           ":path",
                                                           ":scheme",
                                                           ":scheme",
                                                           ":status",
                                                           ":status",
                                                           ":status",
                                                           ":status",
                                                           ":status",
                                                           ":status",
                                                           ":status",
                                                           "accept-charset",
                                                           "accept-encoding",
                                                           "accept-language",
                                                           "accept-ranges",
                                                           "accept",
                                                           "access-control-allow-origin",
                                                           "age",
                                                           "allow",
                                                           "authorization",
                                                           "cache-control",
                                                           "content-disposition",
                                                           "content-encoding",
                                                           "content-language",
                                                           "content-length",
                                                           "content-location",
                                                           "content-range",
                                                           "content-type",
                                                           "cookie",
                                                           "date",
                                                           "etag",
                                                           "expect",
                                                           "expires",
                                                           "from",
                                                           "host",
                                                           "if-match",
                                                           "if-modified-since",
                                                           "if-none-match",
                                                           "if-range",
                                                           "if-unmodified-since",
                                                           "last-modified",
                                                           "link",
                                                           "location",
                                                           "max-forwards",
                                                           "proxy-authenticate",
                                                           "proxy-authorization",
                                                           "range",
                                                           "referer",
                                                           "refresh",
                                                           "retry-after",
                                                           "server",
                                                           "set-cookie",
                                                           "strict-transport-security",
                                                           "transfer-encoding",
                                                           "user-agent",
                                                           "vary",
                                                           "via",
                                                           "www-authenticate"};

enum class NameKind : std::uint8_t { authority, host, other_pseudo, regular };

NameKind kind_of(std::string_view name) noexcept {
  if (name == ":authority") return NameKind::authority;
  if (name == "host") return NameKind::host;
  return name.starts_with(':') ? NameKind::other_pseudo : NameKind::regular;
}

struct FieldName {
  NameKind kind = NameKind::regular;
  std::uint32_t length = 0;
};

/// A string literal as it stands in the block.
struct Literal {
  std::span<const std::byte> bytes;
  bool huffman = false;
};

struct Entry {
  FieldName name;
  Literal value;
  std::uint32_t value_length = 0;
  [[nodiscard]] std::size_t bytes() const noexcept { return kEntryOverheadBytes + name.length + value_length; }
};

/// The length of the text; as much of it as fits is written.
std::optional<std::size_t> decode(const Literal& literal, std::span<char> text) noexcept {
  if (literal.huffman) return huffman_decode(literal.bytes, text);
  const auto plain = as_text(literal.bytes);
  std::copy_n(plain.begin(), std::min(plain.size(), text.size()), text.begin());
  return plain.size();
}

class DynamicTable {
 public:
  [[nodiscard]] std::size_t entries() const noexcept { return count_; }
  /// 0 is the youngest.
  [[nodiscard]] const Entry& at(std::size_t index) const noexcept {
    return entries_.at((youngest_ + kMostEntries - index) % kMostEntries);
  }
  void add(const Entry& entry) noexcept {
    evict(entry.bytes() > most_bytes_ ? 0 : most_bytes_ - entry.bytes());
    if (entry.bytes() > most_bytes_) return;  // too large for the table: it is empty now, and stays so (section 4.4)
    youngest_ = (youngest_ + 1) % kMostEntries;
    entries_.at(youngest_) = entry;
    ++count_;
    bytes_ += entry.bytes();
  }
  void resize(std::size_t most_bytes) noexcept {
    most_bytes_ = most_bytes;
    evict(most_bytes);
  }

 private:
  void evict(std::size_t until_bytes) noexcept {
    while (bytes_ > until_bytes) bytes_ -= at(--count_).bytes();
  }

  std::array<Entry, kMostEntries> entries_{};
  std::size_t youngest_ = 0;
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
  std::size_t most_bytes_ = kMostTableBytes;
};

class Decoder {
 public:
  Decoder(std::span<const std::byte> block, RequestNames& names) noexcept : reader_(block), names_(&names) {}

  Doubt decode_all() noexcept {
    for (unsigned fields = 0; !reader_.empty(); ++fields) {
      if (fields >= kMostFields) return Doubt::too_long;
      if (!decode_one()) return Doubt::malformed;
    }
    return Doubt::none;
  }

 private:
  bool decode_one() noexcept {
    const auto first = std::to_integer<unsigned>(reader_.rest().front());
    if (first >= 0x80) return indexed();
    if (first >= 0x40) return literal(6, true);
    if (first >= 0x20) return table_size();
    return literal(4, false);
  }

  /// An integer with a prefix of so many bits (section 5.1).
  std::optional<std::size_t> number(unsigned prefix_bits) noexcept {
    const std::size_t most = (1UL << prefix_bits) - 1;
    std::size_t value = reader_.number(1) & most;
    if (value == most) {
      std::size_t byte = 0x80;
      for (unsigned shift = 0; (byte & 0x80U) != 0; shift += 7) {
        if (reader_.empty() || shift > 21) return std::nullopt;
        byte = reader_.number(1);
        value += (byte & 0x7fU) << shift;
      }
    }
    if (!reader_.ok() || value > kMostNumber) return std::nullopt;
    return value;
  }

  bool read(Literal& literal) noexcept {
    if (reader_.empty()) return false;
    literal.huffman = (std::to_integer<unsigned>(reader_.rest().front()) & 0x80U) != 0;
    const auto length = number(7);
    if (!length || *length > reader_.left()) return false;
    literal.bytes = reader_.take(*length);
    return true;
  }

  bool read_name(FieldName& name) noexcept {
    Literal literal;
    if (!read(literal)) return false;
    std::array<char, 64> text{};
    const auto length = decode(literal, text);
    if (!length || *length == 0) return false;
    const std::string_view start(text.data(), std::min(*length, text.size()));
    // Upper case is how a field is hidden from those who compare strictly; RFC 9113 section 8.2.1 forbids it, with all that is no token.
    if (std::ranges::any_of(start, [](char c) {
          return static_cast<unsigned char>(c) <= 0x20 || c >= 0x7f || (c >= 'A' && c <= 'Z');
        })) {
      return false;
    }
    if (start.find(':', 1) != std::string_view::npos) return false;
    name = {.kind = kind_of(start), .length = static_cast<std::uint32_t>(*length)};
    return true;
  }

  /// Indices count the static table first (section 2.3.3).
  bool look_up(std::size_t index, Entry& entry) const noexcept {
    if (index == 0 || index > kStaticNames.size() + table_.entries()) return false;
    if (index > kStaticNames.size()) {
      entry = table_.at(index - kStaticNames.size() - 1);
      return true;
    }
    const auto name = kStaticNames.at(index - 1);
    entry = {.name = {.kind = kind_of(name), .length = static_cast<std::uint32_t>(name.size())},
             .value = {},
             .value_length = 0};
    return true;
  }

  bool indexed() noexcept {
    const auto index = number(7);
    Entry entry;
    return index && look_up(*index, entry) && field(entry.name, entry.value);
  }

  bool literal(unsigned prefix_bits, bool remembered) noexcept {
    const auto index = number(prefix_bits);
    Entry entry;
    if (!index || !(*index == 0 ? read_name(entry.name) : look_up(*index, entry)) || !read(entry.value)) return false;
    if (remembered) {
      const auto length = decode(entry.value, {});
      if (!length) return false;
      entry.value_length = static_cast<std::uint32_t>(*length);
      table_.add(entry);
    }
    return field(entry.name, entry.value);
  }

  /// Only before the first field (section 4.2), and never above what the server has allowed, which has not spoken.
  bool table_size() noexcept {
    const auto size = number(5);
    if (any_field_ || !size || *size > kMostTableBytes) return false;
    table_.resize(*size);
    return true;
  }

  bool field(const FieldName& name, const Literal& value) noexcept {
    any_field_ = true;
    // Pseudo-fields come first (RFC 9113 section 8.3).
    const bool pseudo = name.kind == NameKind::authority || name.kind == NameKind::other_pseudo;
    if (pseudo && regular_seen_) return false;
    regular_seen_ = regular_seen_ || !pseudo;
    if (name.kind == NameKind::authority) return take_name(value, names_->authority);
    if (name.kind == NameKind::host) return take_name(value, names_->host);
    return true;
  }

  static bool take_name(const Literal& value, HostName& name) noexcept {
    if (!name.empty()) return false;
    std::array<char, kMostAuthorityBytes> text{};
    const auto length = decode(value, text);
    return length && *length <= text.size() && name.assign_authority({text.data(), *length});
  }

  ByteReader reader_;
  RequestNames* names_;
  DynamicTable table_;
  bool any_field_ = false;
  bool regular_seen_ = false;
};

}  // namespace

Doubt decode_header_block(std::span<const std::byte> block, RequestNames& names) noexcept {
  return Decoder(block, names).decode_all();
}

}  // namespace limpid
