// Little-endian by hand, so that a test can write packets down. Both ends are the same program, but one of them may have been taken over.
#include "service/keeper_protocol.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "base/byte_cursor.h"

namespace limpid {
namespace {

/// "LRK1": a packet that begins otherwise is not ours.
constexpr std::string_view kMagic = "LRK1";
constexpr std::size_t kMostPartBytes = 8000;  ///< four parts of an error and the head fit into one answer
constexpr std::size_t kChunkBytes = 32768;

constexpr std::size_t kNumberBytes = 8;
constexpr std::size_t kSequenceBytes = 2;

/// Of each packet of a report: what it is, and the sequence.
constexpr std::size_t kReportHeadBytes = 2;
constexpr char kMore = 'm';
constexpr char kLast = 'l';
constexpr char kError = 'e';

void append_number(std::string& packet, std::uint64_t number) {
  for (unsigned shift = 0; shift < 64; shift += 8) packet += static_cast<char>(number >> shift & 0xffU);
}

void append_sequence(std::string& packet, std::uint16_t sequence) {
  packet += static_cast<char>(sequence & 0xffU);
  packet += static_cast<char>(sequence >> 8U);
}

/// Of the first two bytes.
std::uint16_t read_sequence(std::string_view packet) {
  return static_cast<std::uint16_t>(static_cast<unsigned char>(packet[0]) | static_cast<unsigned char>(packet[1])
                                                                                << 8U);
}

/// Of the first eight bytes.
std::uint64_t read_number(std::string_view packet) {
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < kNumberBytes; ++i)
    number |= static_cast<std::uint64_t>(static_cast<unsigned char>(packet[i])) << (8 * i);
  return number;
}

std::string_view bounded(std::string_view text) {
  return text.substr(0, std::min(text.size(), kMostPartBytes));
}

void append_error(std::string& packet, const Error& error) {
  packet += static_cast<char>(error.kind);
  for (const std::string* part : {&error.operation, &error.object, &error.cause, &error.remedy}) {
    packet += bounded(*part);
    packet += '\0';
  }
}

Error take_error(std::string_view packet) {
  Error error;
  const auto kind = static_cast<unsigned char>(packet.empty() ? '\0' : packet.front());
  error.kind =
      kind <= static_cast<unsigned char>(ErrorKind::unsupported) ? static_cast<ErrorKind>(kind) : ErrorKind::failure;
  if (!packet.empty()) packet.remove_prefix(1);
  for (std::string* part : {&error.operation, &error.object, &error.cause, &error.remedy}) {
    const auto end = packet.find('\0');
    *part = packet.substr(0, end);
    packet.remove_prefix(end == std::string_view::npos ? packet.size() : end + 1);
  }
  if (error.cause.empty()) error.cause = "the process that keeps the rules has said nothing that can be understood";
  return error;
}

bool send_packet(int channel, std::string_view packet) {
  while (send(channel, packet.data(), packet.size(), MSG_NOSIGNAL) < 0) {
    if (errno != EINTR) return false;  // EAGAIN too: SO_SNDTIMEO is over
  }
  return true;
}

}  // namespace

std::string encode(const KeeperRequest& request) {
  std::string packet(kMagic);
  packet += static_cast<char>(request.order);
  packet += '\0';
  append_sequence(packet, request.sequence);
  append_number(packet, request.value);
  return packet;
}

std::optional<KeeperRequest> decode_request(std::string_view packet) {
  if (packet.size() != kKeeperRequestBytes || !packet.starts_with(kMagic)) return std::nullopt;
  const auto order = static_cast<unsigned char>(packet[4]);
  const bool known = order >= static_cast<unsigned char>(KeeperOrder::install) &&
                     order <= static_cast<unsigned char>(KeeperOrder::leave);
  if (!known || packet[5] != '\0') return std::nullopt;
  const KeeperRequest request{.order = static_cast<KeeperOrder>(order),
                              .value = read_number(packet.substr(8)),
                              .sequence = read_sequence(packet.substr(6))};
  if (request.order == KeeperOrder::reload) return request;
  const std::uint64_t most = request.order == KeeperOrder::end_successor ? kMostPatienceMs : 0;
  return request.value <= most ? std::optional(request) : std::nullopt;
}

std::string encode(const KeeperReply& reply) {
  std::string packet(kMagic);
  packet += reply.outcome ? '\1' : '\0';
  packet += reply.flag ? '\1' : '\0';
  append_sequence(packet, reply.sequence);
  append_number(packet, reply.number);
  if (reply.outcome) {
    packet += bounded(reply.text);
  } else {
    append_error(packet, reply.outcome.error());
  }
  return packet;
}

KeeperReply decode_reply(std::string_view packet) {
  KeeperReply reply;
  if (packet.size() < kMagic.size() + 2 + kSequenceBytes + kNumberBytes || !packet.starts_with(kMagic)) {
    reply.outcome = std::unexpected(take_error({}));
    return reply;
  }
  packet.remove_prefix(kMagic.size());
  const bool done = packet[0] == '\1';
  reply.flag = packet[1] == '\1';
  packet.remove_prefix(2);
  reply.sequence = read_sequence(packet);
  packet.remove_prefix(kSequenceBytes);
  reply.number = read_number(packet);
  packet.remove_prefix(kNumberBytes);
  if (done) {
    reply.text = packet;
  } else {
    reply.outcome = std::unexpected(take_error(packet));
  }
  return reply;
}

Result<KeeperReply> receive_reply(const DescriptorChannel& channel, std::uint16_t sequence,
                                  DescriptorChannel::Deadline deadline) {
  for (;;) {
    const auto packet = channel.receive(deadline);
    if (!packet) return std::unexpected(packet.error());
    KeeperReply reply = decode_reply(as_text(packet->bytes));
    if (reply.sequence == sequence) return reply;
  }
}

std::uint64_t digest_of(std::string_view text) noexcept {
  std::uint64_t digest = 0xcbf29ce484222325U;
  for (const char each : text) digest = (digest ^ static_cast<unsigned char>(each)) * 0x100000001b3U;
  return digest;
}

void send_report(int channel, std::uint8_t sequence, const Result<std::string>& report) {
  const auto head = [sequence](char kind) { return std::string{kind, static_cast<char>(sequence)}; };
  if (!report) {
    std::string packet = head(kError);
    append_error(packet, report.error());
    send_packet(channel, packet);
    return;
  }
  std::string_view left = *report;
  do {
    const auto chunk = left.substr(0, kChunkBytes);
    left.remove_prefix(chunk.size());
    if (!send_packet(channel, head(left.empty() ? kLast : kMore).append(chunk))) return;
  } while (!left.empty());
}

Result<std::string> receive_report(int channel, std::uint8_t sequence, int stop, DescriptorChannel::Deadline deadline) {
  constexpr std::string_view kWho = "limpid doctor";
  std::string text;
  std::array<char, kReportHeadBytes + kChunkBytes> packet{};
  for (;;) {
    std::array<pollfd, 2> wanted{pollfd{channel, POLLIN, 0}, pollfd{stop, POLLIN, 0}};
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    const int ready = poll(wanted.data(), wanted.size(), static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (ready < 0 && errno != EINTR) return system_error(errno, "run", kWho);
    if (ready == 0) return failure("run", kWho, "there was no report in time", "try again");
    if (wanted[1].revents != 0) return failure("run", kWho, "it was not wanted any more");
    if (wanted[0].revents == 0) continue;
    const ssize_t length = recv(channel, packet.data(), packet.size(), MSG_DONTWAIT);
    if (length < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (length <= 0) return failure("run", kWho, "the process that may run it has ended", "restart");
    const std::string_view whole(packet.data(), static_cast<std::size_t>(length));
    if (whole.size() < kReportHeadBytes || static_cast<std::uint8_t>(whole[1]) != sequence) continue;
    const std::string_view rest = whole.substr(kReportHeadBytes);
    if (packet[0] == kError) return std::unexpected(take_error(rest));
    if (text.size() + rest.size() > kMostReportBytes) return failure("run", kWho, "its report is too long");
    text += rest;
    if (packet[0] != kMore) return text;
  }
}

}  // namespace limpid
