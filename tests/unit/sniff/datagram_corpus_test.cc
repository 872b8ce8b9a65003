// Datagrams of the corpus: DNS queries, and QUIC handshakes of real clients, of the RFCs, and composed.
#include <gtest/gtest.h>

#include <random>

#include "sniff/quic_sniffer.h"
#include "tests/unit/sniff/corpus.h"
#include "tests/unit/sniff/properties.h"

namespace limpid {
namespace {

using sniff_corpus::Bytes;
using sniff_corpus::Entry;

/// As a worker does it: the first datagram decides whether a QuicSniffer is needed.
SniffOutcome sniff_session(const std::vector<Bytes>& datagrams, Sniffed& sniffed) {
  auto outcome = sniff_datagram(datagrams.at(0), sniffed);
  if (outcome != SniffOutcome::more) return outcome;
  auto crypto = QuicCrypto::open();
  if (!crypto) throw std::runtime_error(crypto.error().message());
  QuicSniffer sniffer;
  for (const auto& datagram : datagrams) {
    outcome = sniffer.take(*crypto, datagram, sniffed);
    if (outcome != SniffOutcome::more) break;
  }
  return outcome;
}

class Session : public testing::TestWithParam<Entry> {};

TEST_P(Session, gives_the_expected_answer) {
  Sniffed sniffed;
  const auto outcome = sniff_session(GetParam().pieces, sniffed);
  EXPECT_EQ(sniff_corpus::answer(sniff_corpus::as_entry(outcome, sniffed)), sniff_corpus::answer(GetParam()));
}

TEST_P(Session, is_sound_whatever_is_changed_in_it) {
  std::mt19937 random(static_cast<unsigned>(std::hash<std::string>()(GetParam().file)));
  for (int round = 0; round < 100; ++round) {
    auto datagrams = GetParam().pieces;
    auto& changed = datagrams[random() % datagrams.size()];
    changed = sniff_properties::mutated(changed, random);
    Sniffed sniffed;
    const auto outcome = sniff_session(datagrams, sniffed);
    ASSERT_EQ(sniff_properties::broken_answer(outcome, sniffed), "") << "round " << round;
  }
}

TEST_P(Session, is_not_changed_by_a_datagram_that_comes_twice) {
  if (GetParam().outcome != "found") return;  // only an answer can change
  std::vector<Bytes> twice;
  for (const auto& datagram : GetParam().pieces) twice.insert(twice.end(), 2, datagram);
  Sniffed sniffed;
  const auto outcome = sniff_session(twice, sniffed);
  EXPECT_EQ(sniff_corpus::answer(sniff_corpus::as_entry(outcome, sniffed)), sniff_corpus::answer(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Corpus, Session,
                         testing::ValuesIn(sniff_corpus::read_all(LIMPID_TESTS_DIR "/corpus/sniff", false)),
                         [](const auto& tested) { return tested.param.file; });

/// Of handshakes whose datagrams belong to one set of keys.
TEST(QuicOrder, does_not_matter) {
  int tried = 0;
  for (const auto& entry : sniff_corpus::read_all(LIMPID_TESTS_DIR "/corpus/sniff", false)) {
    if (entry.file != "composed_quic_several_datagrams" && entry.file != "recorded_chromium_quic" &&
        entry.file != "composed_quic_v2_several") {
      continue;
    }
    std::vector<std::size_t> order(entry.pieces.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    do {
      std::vector<Bytes> datagrams;
      for (const std::size_t i : order) datagrams.push_back(entry.pieces[i]);
      Sniffed sniffed;
      const auto outcome = sniff_session(datagrams, sniffed);
      ASSERT_EQ(sniff_corpus::answer(sniff_corpus::as_entry(outcome, sniffed)), sniff_corpus::answer(entry))
          << entry.file;
      ++tried;
    } while (std::ranges::next_permutation(order).found);
  }
  EXPECT_GE(tried, 24 + 2 + 2);
}

/// Every byte of a datagram is authenticated, or decides where what is authenticated ends: none can be changed and still give a name.
TEST(QuicInitial, gives_no_name_once_a_byte_is_changed) {
  for (const auto& entry : sniff_corpus::read_all(LIMPID_TESTS_DIR "/corpus/sniff", false)) {
    if (entry.file != "composed_quic_rfc9001" && entry.file != "composed_quic_rfc9369") continue;
    for (std::size_t i = 0; i < entry.pieces[0].size(); ++i) {
      auto changed = entry.pieces;
      changed[0][i] ^= std::byte{0x01};
      Sniffed sniffed;
      EXPECT_NE(sniff_session(changed, sniffed), SniffOutcome::found) << entry.file << ", byte " << i;
    }
  }
}

}  // namespace
}  // namespace limpid
