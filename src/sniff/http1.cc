// The head of an HTTP/1 request (RFC 9112): the name out of Host, or out of the request target where that has one. The head is read to
// its end, because a second Host may stand there; whatever servers and proxies are known to read in different ways is malformed: that
// is how a name that is allowed is shown to one and another name to the other.
#include <algorithm>
#include <array>
#include <optional>

#include "base/ascii.h"
#include "sniff/byte_reader.h"
#include "sniff/parsers.h"

namespace limpid {
namespace {

/// The longest that is registered has 17 (UPDATEREDIRECTREF).
constexpr std::size_t kMostMethodBytes = 32;
constexpr std::string_view kVersion = "HTTP/1.";

/// RFC 9110 section 5.6.2.
constexpr std::array<bool, 256> kTokenBytes = [] {
  std::array<bool, 256> table{};
  for (unsigned c = 'a'; c <= 'z'; ++c) table.at(c) = table.at(c - 'a' + 'A') = true;
  for (unsigned c = '0'; c <= '9'; ++c) table.at(c) = true;
  for (const char c : std::string_view("!#$%&'*+-.^_`|~")) table.at(static_cast<unsigned char>(c)) = true;
  return table;
}();
bool is_token(std::string_view text) noexcept {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return kTokenBytes[static_cast<unsigned char>(c)]; });
}
/// A field's value holds no control byte but the tab (RFC 9110 section 5.5). A CR that is not before an LF is such a byte.
bool is_field_value(std::string_view text) noexcept {
  return std::ranges::none_of(text,
                              [](char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f; });
}
bool is_target(std::string_view text) noexcept {
  return !text.empty() &&
         std::ranges::none_of(text, [](char c) { return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f; });
}
bool same_ignoring_case(std::string_view text, std::string_view lower_case) noexcept {
  return std::ranges::equal(text, lower_case, [](char c, char lower) { return ascii_lower(c) == lower; });
}
std::string_view trimmed(std::string_view text) noexcept {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

/// The line at `at`, which moves behind it: without its end, CRLF or a bare LF (RFC 9112 section 2.2). None while the end is not there.
std::optional<std::string_view> next_line(std::string_view text, std::size_t& at) noexcept {
  const auto end = text.find('\n', at);
  if (end == std::string_view::npos) return std::nullopt;
  auto line = text.substr(at, end - at);
  if (line.ends_with('\r')) line.remove_suffix(1);
  at = end + 1;
  return line;
}

struct RequestLine {
  std::string_view method;
  std::string_view target;
};
/// method SP target SP HTTP/1.x, with exactly those spaces.
Doubt parse_request_line(std::string_view line, RequestLine& request) noexcept {
  const auto first = line.find(' ');
  const auto last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return Doubt::unrecognised;
  const auto version = line.substr(last + 1);
  if (!version.starts_with(kVersion) || version.size() != kVersion.size() + 1 || version.back() < '0' ||
      version.back() > '9') {
    return Doubt::unrecognised;
  }
  request.method = line.substr(0, first);
  request.target = line.substr(first + 1, last - first - 1);
  return is_target(request.target) ? Doubt::none : Doubt::malformed;
}

/// Whether a method can begin like this: what has come of a stream must not wait for the end of a line that will never be a request.
bool may_be_method(std::string_view text) noexcept {
  const auto space = text.find(' ');
  if (space == std::string_view::npos && text.size() > kMostMethodBytes) return false;
  const auto method = text.substr(0, space);
  return method.size() <= kMostMethodBytes && is_token(method);
}

/// The host and port of a target: all of it for CONNECT, what stands behind "scheme://" (RFC 9112 section 3.2), or nothing. False: the
/// target has none of the four forms.
bool authority_of(const RequestLine& request, std::string_view& authority) noexcept {
  authority = {};
  if (request.method == "CONNECT") {
    authority = request.target;
    return true;
  }
  if (request.target.front() == '/' || request.target == "*") return true;
  const auto colon = request.target.find("://");
  if (colon == std::string_view::npos || colon == 0) return false;
  const auto scheme = request.target.substr(0, colon);
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (!is_letter(scheme.front()) || !std::ranges::all_of(scheme, [&](char c) {
        return is_letter(c) || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
      })) {
    return false;
  }
  const auto rest = request.target.substr(colon + 3);
  authority = rest.substr(0, rest.find_first_of("/?#"));
  return !authority.empty();
}

/// The fields between request line and empty line, of which only Host counts.
class Fields {
 public:
  /// False: malformed.
  bool add(std::string_view line) noexcept {
    if (line.front() == ' ' || line.front() == '\t') {
      // Obsolete folding (RFC 9112 section 5.2): servers refuse it, join the lines, or take the second for a field. A Host is not to be
      // found that way, and neither is a field before the first one.
      return any_ && !last_was_host_ && is_field_value(line) && !same_ignoring_case(trimmed(line).substr(0, 4), "host");
    }
    const auto colon = line.find(':');
    // A space before the colon is how a field is hidden from some (RFC 9112 section 5.1).
    if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) return false;
    const auto value = line.substr(colon + 1);
    if (!is_field_value(value)) return false;
    any_ = true;
    last_was_host_ = same_ignoring_case(line.substr(0, colon), "host");
    if (!last_was_host_) return true;
    if (has_host_) return false;
    has_host_ = true;
    host_ = trimmed(value);
    return true;
  }
  /// Empty where there is none, or an empty one.
  [[nodiscard]] std::string_view host() const noexcept { return host_; }

 private:
  std::string_view host_;
  bool any_ = false;
  bool has_host_ = false;
  bool last_was_host_ = false;
};

/// RFC 9112 section 3.2.2: a target's own authority counts, and Host must be the same. What differs is meant for two readers.
SniffOutcome name_of(const RequestLine& request, const Fields& fields, Sniffed& sniffed) noexcept {
  std::string_view authority;
  HostName target_name;
  if (!authority_of(request, authority) || (!authority.empty() && !target_name.assign_authority(authority)) ||
      (!fields.host().empty() && !sniffed.name.assign_authority(fields.host()))) {
    return doubt(sniffed, Doubt::malformed);
  }
  if (!target_name.empty()) {
    if (!sniffed.name.empty() && !(sniffed.name == target_name)) return doubt(sniffed, Doubt::malformed);
    sniffed.name = target_name;
  }
  return SniffOutcome::found;
}

}  // namespace

SniffOutcome sniff_http1(std::span<const std::byte> bytes, Sniffed& sniffed) noexcept {
  const auto text = as_text(bytes);
  // Empty lines before a request are to be ignored (RFC 9112 section 2.2).
  std::size_t at = 0;
  while (at < text.size() &&
         (text[at] == '\n' || (text[at] == '\r' && (at + 1 == text.size() || text[at + 1] == '\n'))))
    ++at;
  if (at == text.size()) return need_bytes(sniffed, text.size() + 1);
  if (!may_be_method(text.substr(at))) return doubt(sniffed, Doubt::unrecognised);

  const auto first_line = next_line(text, at);
  if (!first_line) return need_bytes(sniffed, text.size() + 1);
  RequestLine request;
  const Doubt request_doubt = parse_request_line(*first_line, request);
  if (request_doubt != Doubt::none) return doubt(sniffed, request_doubt);

  Fields fields;
  unsigned lines = 0;
  while (const auto line = next_line(text, at)) {
    if (line->empty()) return name_of(request, fields, sniffed);
    if (++lines > kMostFields) return doubt(sniffed, Doubt::too_long);
    if (!fields.add(*line)) return doubt(sniffed, Doubt::malformed);
  }
  return need_bytes(sniffed, text.size() + 1);
}

}  // namespace limpid
