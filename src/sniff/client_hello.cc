// A ClientHello (RFC 8446 section 4.1.2, RFC 5246 section 7.4.1.2): server_name, ALPN, and whether there is ECH. The same for TLS and for
// QUIC. Strict where servers differ: what two of them could read in two ways has no name here.
#include "sniff/byte_reader.h"
#include "sniff/parsers.h"

namespace limpid {
namespace {

constexpr std::uint32_t kServerName = 0;                 // RFC 6066 section 3
constexpr std::uint32_t kAlpn = 16;                      // RFC 7301
constexpr std::uint32_t kEncryptedClientHello = 0xfe0d;  // RFC 9849
constexpr std::uint32_t kHostNameType = 0;

/// Exactly one entry, a host_name. RFC 6066 allows one of each type, but no other type was ever defined, and servers refuse more.
bool read_server_name(std::span<const std::byte> extension, Sniffed& sniffed) noexcept {
  ByteReader reader(extension);
  ByteReader list(reader.vector(2));
  const std::uint32_t type = list.number(1);
  const auto name = list.vector(2);
  return reader.ok() && list.ok() && reader.empty() && list.empty() && type == kHostNameType &&
         sniffed.name.assign_host(as_text(name));
}

bool read_alpn(std::span<const std::byte> extension, Sniffed& sniffed) noexcept {
  ByteReader reader(extension);
  ByteReader list(reader.vector(2));
  if (!reader.ok() || !reader.empty() || list.empty()) return false;
  while (!list.empty()) {
    const auto id = list.vector(1);
    if (!list.ok() || id.empty()) return false;
    sniffed.alpn.add(as_text(id));
  }
  return true;
}

bool read_extensions(ByteReader extensions, Sniffed& sniffed) noexcept {
  bool server_name = false;
  bool alpn = false;
  while (!extensions.empty()) {
    const std::uint32_t type = extensions.number(2);
    const auto body = extensions.vector(2);
    if (!extensions.ok()) return false;
    switch (type) {
      case kServerName:
        if (server_name || !read_server_name(body, sniffed)) return false;
        server_name = true;
        break;
      case kAlpn:
        if (alpn || !read_alpn(body, sniffed)) return false;
        alpn = true;
        break;
      case kEncryptedClientHello:
        if (sniffed.ech) return false;
        sniffed.ech = true;
        break;
      default: break;  // GREASE (RFC 8701) and everything else
    }
  }
  return true;
}

}  // namespace

bool parse_client_hello(std::span<const std::byte> body, Sniffed& sniffed) noexcept {
  ByteReader hello(body);
  const std::uint32_t version = hello.number(2);
  hello.take(32);  // random
  const auto session_id = hello.vector(1);
  const auto cipher_suites = hello.vector(2);
  const auto compression_methods = hello.vector(1);
  if (!hello.ok() || version >> 8U != 3 || session_id.size() > 32) return false;
  if (cipher_suites.empty() || cipher_suites.size() % 2 != 0 || compression_methods.empty()) return false;
  if (hello.empty()) return true;  // from before there were extensions
  const ByteReader extensions(hello.vector(2));
  return hello.ok() && hello.empty() && read_extensions(extensions, sniffed);
}

}  // namespace limpid
