// Protects QUIC Initials as a client does, for the fuzzer and the micro-benchmark. The keys come from QuicCrypto, which is checked against
// the RFCs; tests of the packet protection use the corpus, which another implementation wrote.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "sniff/quic_crypto.h"

namespace limpid::sniff_corpus {

/// A packet of version 1 with a number of four bytes to `destination`, in a datagram of its own.
inline std::vector<std::byte> protected_initial(QuicCrypto& crypto, std::span<const std::byte> destination,
                                                std::uint32_t number, std::span<const std::byte> payload) {
  QuicInitialKeys keys;
  if (!crypto.derive_client_keys(QuicVersion::v1, destination, keys)) return {};
  std::vector<std::byte> packet;
  const auto put = [&](std::size_t value, std::size_t count) {
    while (count-- > 0) packet.push_back(static_cast<std::byte>(value >> (8 * count)));
  };
  put(0xc3, 1);
  put(1, 4);
  put(destination.size(), 1);
  packet.insert(packet.end(), destination.begin(), destination.end());
  put(0, 2);  // no source, no token
  const std::size_t length = 4 + payload.size() + QuicCrypto::kTagBytes;
  put(0x80000000U | length, 4);
  const std::size_t number_at = packet.size();
  put(number, 4);
  const std::size_t header_bytes = packet.size();
  packet.insert(packet.end(), payload.begin(), payload.end());
  packet.resize(packet.size() + QuicCrypto::kTagBytes);

  const auto native = [](auto& bytes) { return reinterpret_cast<unsigned char*>(bytes.data()); };
  auto nonce = keys.iv;
  for (std::size_t i = 0; i < 4; ++i) nonce[11 - i] ^= static_cast<std::byte>(number >> (8 * i));
  const std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)> context(EVP_CIPHER_CTX_new(),
                                                                                &EVP_CIPHER_CTX_free);
  const std::span body = std::span(packet).subspan(header_bytes, payload.size());
  const std::span tag = std::span(packet).last(QuicCrypto::kTagBytes);
  int size = 0;
  EVP_EncryptInit_ex(context.get(), EVP_aes_128_gcm(), nullptr, native(keys.key), native(nonce));
  EVP_EncryptUpdate(context.get(), nullptr, &size, native(packet), static_cast<int>(header_bytes));
  EVP_EncryptUpdate(context.get(), native(body), &size, native(body), static_cast<int>(body.size()));
  EVP_EncryptFinal_ex(context.get(), native(tag), &size);
  EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_GET_TAG, static_cast<int>(tag.size()), tag.data());

  std::array<std::byte, 16> mask{};
  const std::span sample = std::span(packet).subspan(number_at + 4, 16);
  EVP_EncryptInit_ex(context.get(), EVP_aes_128_ecb(), nullptr, native(keys.header_protection), nullptr);
  EVP_EncryptUpdate(context.get(), native(mask), &size, native(sample), 16);
  packet[0] ^= mask[0] & std::byte{0x0f};
  for (std::size_t i = 0; i < 4; ++i) packet[number_at + i] ^= mask[i + 1];
  return packet;
}

}  // namespace limpid::sniff_corpus
