// Reads a PROXY protocol header, version 1 or 2, off the beginning of a connection from somebody who is trusted to tell the truth
// about its clients. Bytes in, and out comes who the client is. Holds no socket.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "limpid/address.h"

namespace limpid {

class ProxyReader {
 public:
  enum class State : std::uint8_t { running, done, malformed };

  /// Returns how many of the bytes belong to the header: what stands behind it is the flow's.
  [[nodiscard]] std::size_t take(std::span<const std::byte> bytes) noexcept;
  [[nodiscard]] State state() const noexcept { return state_; }
  /// Once done: the client and whom it dialled. Empty where the header names nobody (UNKNOWN, LOCAL): the connection's own count.
  [[nodiscard]] const std::optional<SocketAddress>& client() const noexcept { return client_; }
  [[nodiscard]] const std::optional<SocketAddress>& destination() const noexcept { return destination_; }

  /// The specification's limit of version 1; of version 2, which allows 64 KiB of further facts, what somebody could mean seriously.
  static constexpr std::size_t kMostLineBytes = 107;
  static constexpr std::size_t kMostBytes = 4096;

 private:
  void take_byte(std::uint8_t byte) noexcept;
  void take_text(std::uint8_t byte) noexcept;
  void take_binary(std::uint8_t byte) noexcept;
  void read_line() noexcept;
  void read_prologue() noexcept;
  void read_addresses() noexcept;

  std::array<std::uint8_t, kMostLineBytes> bytes_{};  ///< the line, or the 16 + 36 bytes with everything that counts
  std::size_t taken_ = 0;
  std::size_t length_ = 16;  ///< of the whole header, version 2
  std::optional<SocketAddress> client_;
  std::optional<SocketAddress> destination_;
  State state_ = State::running;
};

}  // namespace limpid
