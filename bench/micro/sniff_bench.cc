// Names out of first bytes: what each stream costs once, and each QUIC handshake, on what real programs sent (tests/corpus/sniff).
#include <benchmark/benchmark.h>

#include <string>

#include "sniff/quic_sniffer.h"
#include "tests/unit/sniff/corpus.h"

namespace limpid {
namespace {

sniff_corpus::Entry entry(const std::string& name) {
  return sniff_corpus::read(std::string(LIMPID_CORPUS_DIR "/sniff/") + name + ".txt");
}

void sniff_a_stream(benchmark::State& state, const char* name) {
  const auto stream = entry(name).pieces.at(0);
  Sniffed sniffed;
  for (auto _ : state) {
    benchmark::DoNotOptimize(stream.data());
    if (sniff_stream(stream, sniffed) != SniffOutcome::found) state.SkipWithError("not found");
    benchmark::DoNotOptimize(sniffed);
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations() * stream.size()));
}
BENCHMARK_CAPTURE(sniff_a_stream, tls_openssl, "recorded_openssl_tls13");
BENCHMARK_CAPTURE(sniff_a_stream, tls_chromium_post_quantum, "recorded_chromium_https");
BENCHMARK_CAPTURE(sniff_a_stream, tls_in_records_of_one_byte, "composed_tls_bytewise_records");
BENCHMARK_CAPTURE(sniff_a_stream, http1_curl, "recorded_curl_http1");
BENCHMARK_CAPTURE(sniff_a_stream, http1_chromium, "recorded_chromium_http1");
BENCHMARK_CAPTURE(sniff_a_stream, http2_curl, "recorded_curl_http2");
BENCHMARK_CAPTURE(sniff_a_stream, http2_in_18_kilobytes_of_continuation, "recorded_nghttp_continuation");
BENCHMARK_CAPTURE(sniff_a_stream, ssh, "recorded_openssh");
BENCHMARK_CAPTURE(sniff_a_stream, dns_tcp, "recorded_dig_tcp");

/// The first byte of many, as it comes from somebody slow.
void sniff_too_little(benchmark::State& state) {
  const auto stream = entry("recorded_chromium_https").pieces.at(0);
  Sniffed sniffed;
  for (auto _ : state) benchmark::DoNotOptimize(sniff_stream(std::span(stream).first(1), sniffed));
}
BENCHMARK(sniff_too_little);

/// The most that one call can cost: a head that has all the room there is, and does not end.
void sniff_an_endless_head(benchmark::State& state) {
  const auto stream = entry("composed_http1_too_long").pieces.at(0);
  Sniffed sniffed;
  for (auto _ : state) benchmark::DoNotOptimize(sniff_stream(stream, sniffed));
}
BENCHMARK(sniff_an_endless_head);

void sniff_endless_continuation(benchmark::State& state) {
  const auto stream = entry("composed_http2_endless_continuation").pieces.at(0);
  Sniffed sniffed;
  for (auto _ : state) benchmark::DoNotOptimize(sniff_stream(stream, sniffed));
}
BENCHMARK(sniff_endless_continuation);

/// With a new sniffer for each handshake; items are Initials.
void sniff_a_handshake(benchmark::State& state, const char* name) {
  const auto datagrams = entry(name).pieces;
  auto crypto = QuicCrypto::open();
  if (!crypto) return state.SkipWithError("libcrypto");
  Sniffed sniffed;
  for (auto _ : state) {
    QuicSniffer sniffer;
    auto outcome = SniffOutcome::more;
    for (const auto& datagram : datagrams) outcome = sniffer.take(*crypto, datagram, sniffed);
    if (outcome != SniffOutcome::found) state.SkipWithError("not found");
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(state.iterations() * datagrams.size()));
}
BENCHMARK_CAPTURE(sniff_a_handshake, rfc9001, "composed_quic_rfc9001");
BENCHMARK_CAPTURE(sniff_a_handshake, ngtcp2, "recorded_ngtcp2");
BENCHMARK_CAPTURE(sniff_a_handshake, chromium_two_datagrams, "recorded_chromium_quic");

/// What a flood of forged Initials costs: keys are derived, and the packet fails.
void refuse_a_forged_initial(benchmark::State& state) {
  const auto datagram = entry("composed_quic_garbled").pieces.at(0);
  auto crypto = QuicCrypto::open();
  if (!crypto) return state.SkipWithError("libcrypto");
  Sniffed sniffed;
  for (auto _ : state) {
    QuicSniffer sniffer;
    if (sniffer.take(*crypto, datagram, sniffed) != SniffOutcome::unknown) state.SkipWithError("not refused");
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(refuse_a_forged_initial);

}  // namespace
}  // namespace limpid
