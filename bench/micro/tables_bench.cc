// Look-ups of what an event or a datagram belongs to: the flow table by id, the UDP session table by addresses.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "relay/flow_table.h"
#include "relay/udp_session_table.h"

namespace limpid {
namespace {

/// The argument is the number of flows.
void find_a_flow(benchmark::State& state) {
  FlowTable table;
  std::vector<FlowId> ids(static_cast<std::size_t>(state.range(0)));
  for (FlowId& id : ids) {
    if (table.create(id) == nullptr) return state.SkipWithError("no memory");
  }
  std::size_t at = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(table.find(ids[at]));
    at = (at + 7919) % ids.size();
  }
}
BENCHMARK(find_a_flow)->Range(1, 1 << 16);

void begin_and_end_a_flow(benchmark::State& state) {
  FlowTable table;
  for (auto _ : state) {
    FlowId id;
    benchmark::DoNotOptimize(table.create(id));
    table.destroy(id);
  }
}
BENCHMARK(begin_and_end_a_flow);

UdpSessionKey key_of(std::uint32_t number) {
  const auto address = [&](std::uint32_t host) {
    return *IpAddress::parse("10." + std::to_string(host >> 16 & 255) + "." + std::to_string(host >> 8 & 255) + "." +
                             std::to_string(host & 255));
  };
  return {.client = {address(number), Port{static_cast<std::uint16_t>(1024 + number % 60000)}},
          .destination = {address(~number), Port{53}}};
}

/// The argument is the number of sessions.
void find_a_session(benchmark::State& state) {
  const auto count = static_cast<std::uint32_t>(state.range(0));
  UdpSessionTable table({.total = count, .per_source = count}, 42);
  std::vector<UdpSessionKey> keys;
  for (std::uint32_t i = 0; i < count; ++i) {
    keys.push_back(key_of(i));
    std::ignore = table.create(keys.back());
  }
  std::size_t at = 0;
  std::uint64_t now = 0;
  for (auto _ : state) {
    UdpSession* session = table.find(keys[at]);
    table.touch(*session, ++now);
    at = (at + 7919) % keys.size();
  }
}
BENCHMARK(find_a_session)->Range(1, 1 << 16);

void begin_and_end_a_session(benchmark::State& state) {
  UdpSessionTable table({.total = 16, .per_source = 16}, 42);
  const UdpSessionKey key = key_of(1);
  for (auto _ : state) table.destroy(table.create(key));
}
BENCHMARK(begin_and_end_a_session);

}  // namespace
}  // namespace limpid
