// Deadlines: what every flow does once for each burst, and what every turn of the event loop asks.
#include <benchmark/benchmark.h>

#include <cstdint>
#include <vector>

#include "relay/timer_wheel.h"

namespace limpid {
namespace {

/// Many flows, each with its idle timeout far away; the argument is their number.
void move_a_deadline(benchmark::State& state) {
  const auto flows = static_cast<std::uint32_t>(state.range(0));
  std::uint64_t now = 1'000'000;
  TimerWheel wheel(now);
  for (std::uint32_t i = 0; i < flows; ++i) wheel.schedule(i, now + 30'000);
  std::uint32_t at = 0;
  for (auto _ : state) {
    wheel.schedule(at, ++now + 30'000);
    at = (at + 7919) % flows;
  }
}
BENCHMARK(move_a_deadline)->Range(1, 1 << 16);

/// The only deadline is the argument's number of milliseconds away.
void ask_how_long_to_wait(benchmark::State& state) {
  const std::uint64_t now = 1'000'000;
  TimerWheel wheel(now);
  wheel.schedule(0, now + static_cast<std::uint64_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(wheel.wait_ms(now));
}
BENCHMARK(ask_how_long_to_wait)->Arg(100)->Arg(30'000)->Arg(7'440'000);

void turn_without_anything_due(benchmark::State& state) {
  std::uint64_t now = 1'000'000;
  TimerWheel wheel(now);
  wheel.schedule(0, now + 3'600'000);
  std::vector<std::uint32_t> expired;
  for (auto _ : state) wheel.advance(++now, expired);
}
BENCHMARK(turn_without_anything_due);

}  // namespace
}  // namespace limpid
