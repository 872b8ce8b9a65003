// Streams of the corpus: recorded from real programs, and composed. However a stream is cut, it gives `more` or the one answer.
#include <gtest/gtest.h>

#include <random>

#include "tests/unit/sniff/corpus.h"
#include "tests/unit/sniff/properties.h"

namespace limpid {
namespace {

using sniff_corpus::Bytes;
using sniff_corpus::Entry;

class Stream : public testing::TestWithParam<Entry> {};

TEST_P(Stream, gives_the_expected_answer) {
  ASSERT_EQ(GetParam().pieces.size(), 1U);
  Sniffed sniffed;
  const auto outcome = sniff_stream(GetParam().pieces[0], sniffed);
  EXPECT_EQ(sniff_corpus::answer(sniff_corpus::as_entry(outcome, sniffed)), sniff_corpus::answer(GetParam()));
}

TEST_P(Stream, gives_more_or_the_same_wherever_it_is_cut) {
  const auto& stream = GetParam().pieces[0];
  EXPECT_EQ(sniff_properties::broken_by_cutting(stream, stream.size() / 4000 + 1), "");
}

TEST_P(Stream, is_not_changed_by_what_follows) {
  if (GetParam().outcome == "more") return;  // what follows is what it waits for
  std::mt19937 random(1);
  Bytes longer = GetParam().pieces[0];
  Sniffed sniffed;
  const auto before = sniff_corpus::as_entry(sniff_stream(longer, sniffed), sniffed);
  for (int i = 0; i < 3000; ++i) longer.push_back(static_cast<std::byte>(random()));
  EXPECT_EQ(sniff_corpus::answer(sniff_corpus::as_entry(sniff_stream(longer, sniffed), sniffed)),
            sniff_corpus::answer(before));
}

/// Bytes changed, inserted, removed and repeated at random: whatever comes out is sound, and independent of how it is cut.
TEST_P(Stream, is_sound_whatever_is_changed_in_it) {
  std::mt19937 random(static_cast<unsigned>(std::hash<std::string>()(GetParam().file)));
  const Bytes& original = GetParam().pieces[0];
  const int rounds = original.size() > 4096 ? 10 : 80;
  for (int round = 0; round < rounds; ++round) {
    const Bytes mutant = sniff_properties::mutated(original, random);
    ASSERT_EQ(sniff_properties::broken_by_cutting(mutant, mutant.size() / 40 + 1), "") << "round " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(Corpus, Stream,
                         testing::ValuesIn(sniff_corpus::read_all(LIMPID_TESTS_DIR "/corpus/sniff", true)),
                         [](const auto& tested) { return tested.param.file; });

TEST(StreamCorpus, has_what_real_programs_send) {
  const auto entries = sniff_corpus::read_all(LIMPID_TESTS_DIR "/corpus/sniff", true);
  EXPECT_GE(std::ranges::count_if(entries, [](const Entry& entry) { return entry.file.starts_with("recorded_"); }), 20);
}

}  // namespace
}  // namespace limpid
