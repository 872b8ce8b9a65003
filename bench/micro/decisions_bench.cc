// What is computed once for a flow or a datagram: the decision, the headers of an answer, the access log's line.
#include <benchmark/benchmark.h>

#include <array>
#include <cstddef>
#include <vector>

#include "net/packet.h"
#include "policy/decision.h"
#include "service/access_log.h"

namespace limpid {
namespace {

SocketAddress address(const char* text) {
  return *SocketAddress::parse(text);
}

void decide(benchmark::State& state) {
  const Policy policy(
      PolicyOptions{.fixed_target = {}, .listeners = {address("127.0.0.1:1080"), address("[::1]:1080")}});
  const FlowKey key{.client = address("192.0.2.2:40000"), .original_destination = address("198.51.100.2:80")};
  for (auto _ : state) benchmark::DoNotOptimize(policy.decide(key));
}
BENCHMARK(decide);

/// IPv4 without a checksum over the payload's kilobyte, IPv6 with one.
void write_the_headers_of_an_answer(benchmark::State& state) {
  const bool ipv6 = state.range(0) == 6;
  const SocketAddress from = address(ipv6 ? "[2001:db8::1]:53" : "198.51.100.2:53");
  const SocketAddress to = address(ipv6 ? "[2001:db8::2]:40000" : "192.0.2.2:40000");
  std::array<std::byte, kMostUdpHeaderBytes> headers{};
  const std::vector<std::byte> payload(1000, std::byte{7});
  for (auto _ : state) benchmark::DoNotOptimize(write_udp_headers(headers, from, to, payload, {}));
}
BENCHMARK(write_the_headers_of_an_answer)->Arg(4)->Arg(6);

void write_a_line_of_the_access_log(benchmark::State& state) {
  FlowRecord record;
  record.client = address("192.0.2.2:40000");
  record.original_destination = record.target = address("198.51.100.2:80");
  const auto format = state.range(0) == 0 ? LogFormat::logfmt : LogFormat::json;
  for (auto _ : state) benchmark::DoNotOptimize(format_access_line(record, format));
}
BENCHMARK(write_a_line_of_the_access_log)->Arg(0)->Arg(1);

}  // namespace
}  // namespace limpid
