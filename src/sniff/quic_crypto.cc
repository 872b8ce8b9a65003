// HKDF (RFC 5869), which for keys of at most 32 bytes is one HMAC each, AES-128-GCM and AES-128 by libcrypto's EVP interface. Algorithms
// are fetched once: a look-up by name costs more than the work.
#include "sniff/quic_crypto.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "sniff/byte_reader.h"

namespace limpid {
namespace {

constexpr std::size_t kHashBytes = 32;
/// Where the sample begins: as if the packet number had four bytes (RFC 9001 section 5.4.2).
constexpr std::size_t kSampleOffset = 4;

constexpr std::array<unsigned char, 20> kSaltV1 = {0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
                                                   0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a};
constexpr std::array<unsigned char, 20> kSaltV2 = {0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93,
                                                   0x81, 0xbe, 0x6e, 0x26, 0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9};

const unsigned char* native(std::span<const std::byte> bytes) noexcept {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}
unsigned char* writable(std::span<std::byte> bytes) noexcept {
  return reinterpret_cast<unsigned char*>(bytes.data());
}
int size_of(std::span<const std::byte> bytes) noexcept {
  return static_cast<int>(bytes.size());
}

struct Free {
  void operator()(EVP_CIPHER* cipher) const noexcept { EVP_CIPHER_free(cipher); }
  void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
  void operator()(EVP_MAC* mac) const noexcept { EVP_MAC_free(mac); }
  void operator()(EVP_MAC_CTX* context) const noexcept { EVP_MAC_CTX_free(context); }
};

/// The packet number whose lower bits these are, the closest to what is expected (RFC 9000 appendix A.3).
std::uint64_t whole_packet_number(std::uint64_t lower, unsigned bits, std::uint64_t expected) noexcept {
  const std::uint64_t window = std::uint64_t{1} << bits;
  const std::uint64_t candidate = (expected & ~(window - 1)) | lower;
  if (candidate + window / 2 <= expected && candidate < (std::uint64_t{1} << 62U) - window) return candidate + window;
  if (candidate > expected + window / 2 && candidate >= window) return candidate - window;
  return candidate;
}

}  // namespace

struct QuicCrypto::Contexts {
  std::unique_ptr<EVP_CIPHER, Free> gcm{EVP_CIPHER_fetch(nullptr, "AES-128-GCM", nullptr)};
  std::unique_ptr<EVP_CIPHER, Free> ecb{EVP_CIPHER_fetch(nullptr, "AES-128-ECB", nullptr)};
  std::unique_ptr<EVP_MAC, Free> mac{EVP_MAC_fetch(nullptr, "HMAC", nullptr)};
  std::unique_ptr<EVP_CIPHER_CTX, Free> gcm_context{EVP_CIPHER_CTX_new()};
  std::unique_ptr<EVP_CIPHER_CTX, Free> ecb_context{EVP_CIPHER_CTX_new()};
  std::unique_ptr<EVP_MAC_CTX, Free> mac_context{mac ? EVP_MAC_CTX_new(mac.get()) : nullptr};

  [[nodiscard]] bool complete() const noexcept { return gcm && ecb && gcm_context && ecb_context && mac_context; }
  [[nodiscard]] bool choose_hash() noexcept {
    std::array<char, 7> name = {"SHA256"};
    const std::array<OSSL_PARAM, 2> parameters = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name.data(), 0), OSSL_PARAM_construct_end()};
    return EVP_MAC_CTX_set_params(mac_context.get(), parameters.data()) == 1;
  }
};

QuicCrypto::QuicCrypto(std::unique_ptr<Contexts> contexts) noexcept : contexts_(std::move(contexts)) {}
QuicCrypto::QuicCrypto(QuicCrypto&& other) noexcept = default;
QuicCrypto& QuicCrypto::operator=(QuicCrypto&& other) noexcept = default;
QuicCrypto::~QuicCrypto() = default;

Result<QuicCrypto> QuicCrypto::open() {
  auto contexts = std::make_unique<Contexts>();
  if (!contexts->complete() || !contexts->choose_hash()) {
    return unsupported("open", "libcrypto", "it offers no AES-128-GCM, AES-128-ECB or HMAC-SHA256",
                       "allow its default provider in openssl.cnf");
  }
  return QuicCrypto(std::move(contexts));
}

bool QuicCrypto::hmac(std::span<const std::byte> key, std::span<const std::byte> data,
                      std::span<std::byte, 32> out) noexcept {
  EVP_MAC_CTX* context = contexts_->mac_context.get();
  std::size_t written = 0;
  return EVP_MAC_init(context, native(key), key.size(), nullptr) == 1 &&
         EVP_MAC_update(context, native(data), data.size()) == 1 &&
         EVP_MAC_final(context, writable(out), &written, out.size()) == 1 && written == kHashBytes;
}

bool QuicCrypto::expand(std::span<const std::byte, 32> secret, std::string_view label,
                        std::span<std::byte> out) noexcept {
  // HkdfLabel (RFC 8446 section 7.1) with an empty context, and the counter of HKDF-Expand's first and only round.
  constexpr std::string_view prefix = "tls13 ";
  std::array<std::byte, 32> info{};
  std::size_t used = 0;
  const auto put = [&](std::size_t value) { info.at(used++) = static_cast<std::byte>(value); };
  const auto put_text = [&](std::string_view text) {
    for (const char c : text) put(static_cast<unsigned char>(c));
  };
  put(0);
  put(out.size());
  put(prefix.size() + label.size());
  put_text(prefix);
  put_text(label);
  put(0);
  put(1);
  std::array<std::byte, kHashBytes> block{};
  if (!hmac(secret, std::span(info).first(used), block)) return false;
  std::copy_n(block.begin(), out.size(), out.begin());
  return true;
}

bool QuicCrypto::derive_client_keys(QuicVersion version, std::span<const std::byte> destination,
                                    QuicInitialKeys& keys) noexcept {
  const bool v2 = version == QuicVersion::v2;
  const auto salt = std::as_bytes(std::span(v2 ? kSaltV2 : kSaltV1));
  std::array<std::byte, kHashBytes> initial_secret{};
  std::array<std::byte, kHashBytes> client_secret{};
  return hmac(salt, destination, initial_secret) && expand(initial_secret, "client in", client_secret) &&
         expand(client_secret, v2 ? "quicv2 key" : "quic key", keys.key) &&
         expand(client_secret, v2 ? "quicv2 iv" : "quic iv", keys.iv) &&
         expand(client_secret, v2 ? "quicv2 hp" : "quic hp", keys.header_protection);
}

bool QuicCrypto::header_mask(const QuicInitialKeys& keys, std::span<const std::byte> sample,
                             std::array<std::byte, 16>& mask) noexcept {
  EVP_CIPHER_CTX* context = contexts_->ecb_context.get();
  int written = 0;
  return EVP_EncryptInit_ex2(context, contexts_->ecb.get(), native(keys.header_protection), nullptr, nullptr) == 1 &&
         EVP_EncryptUpdate(context, writable(mask), &written, native(sample), size_of(sample)) == 1 && written == 16;
}

std::optional<OpenedQuicPacket> QuicCrypto::open_packet(const QuicInitialKeys& keys, const QuicPacket& packet,
                                                        std::uint64_t expected, std::span<std::byte> plain) noexcept {
  const auto protected_part = packet.bytes.subspan(packet.packet_number_at);
  if (protected_part.size() < kSampleOffset + kSampleBytes || plain.size() < packet.bytes.size()) return std::nullopt;
  std::array<std::byte, 16> mask{};
  if (!header_mask(keys, protected_part.subspan(kSampleOffset, kSampleBytes), mask)) return std::nullopt;

  // The header as it was before it was protected. Only its first byte and the packet number differ, so the rest is not copied.
  const std::array<std::byte, 1> first = {packet.bytes.front() ^ (mask[0] & std::byte{0x0f})};
  const std::size_t number_bytes = std::to_integer<std::size_t>(first[0] & std::byte{0x03}) + 1;
  std::array<std::byte, 4> number{};
  std::uint64_t lower = 0;
  for (std::size_t i = 0; i < number_bytes; ++i) {
    number.at(i) = protected_part[i] ^ mask.at(i + 1);
    lower = lower << 8U | std::to_integer<std::uint64_t>(number.at(i));
  }
  OpenedQuicPacket opened;
  opened.number = whole_packet_number(lower, static_cast<unsigned>(number_bytes * 8), expected);
  opened.reserved_bits = (first[0] & std::byte{0x0c}) != std::byte{0};

  auto nonce = keys.iv;
  for (std::size_t i = 0; i < sizeof opened.number; ++i) {
    nonce.at(nonce.size() - 1 - i) ^= static_cast<std::byte>(opened.number >> (8 * i));
  }
  const auto middle = packet.bytes.subspan(1, packet.packet_number_at - 1);
  const auto sealed = protected_part.subspan(number_bytes);
  const auto text = sealed.first(sealed.size() - kTagBytes);
  std::array<std::byte, kTagBytes> tag{};
  std::ranges::copy(sealed.last(kTagBytes), tag.begin());

  EVP_CIPHER_CTX* context = contexts_->gcm_context.get();
  int written = 0;
  int rest = 0;
  const bool sound =
      EVP_DecryptInit_ex2(context, contexts_->gcm.get(), native(keys.key), native(nonce), nullptr) == 1 &&
      EVP_DecryptUpdate(context, nullptr, &rest, native(first), 1) == 1 &&
      EVP_DecryptUpdate(context, nullptr, &rest, native(middle), size_of(middle)) == 1 &&
      EVP_DecryptUpdate(context, nullptr, &rest, native(number), static_cast<int>(number_bytes)) == 1 &&
      EVP_DecryptUpdate(context, writable(plain), &written, native(text), size_of(text)) == 1 &&
      EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, static_cast<int>(kTagBytes), tag.data()) == 1 &&
      EVP_DecryptFinal_ex(context, writable(plain.subspan(static_cast<std::size_t>(written))), &rest) == 1;
  if (!sound) return std::nullopt;
  opened.payload = plain.first(static_cast<std::size_t>(written));
  return opened;
}

}  // namespace limpid
