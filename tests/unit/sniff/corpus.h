// The entries of tests/corpus/sniff: what was sent, and what is to be found in it. Written by the scripts there, read by the tests and
// the micro-benchmark.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <string>
#include <vector>

#include "sniff/sniffed.h"

namespace limpid::sniff_corpus {

using Bytes = std::vector<std::byte>;

struct Entry {
  std::string file{};
  bool stream = true;
  std::string outcome{};
  std::string protocol{};
  std::string name{};
  std::string alpn{};
  bool ech = false;
  std::string doubt = "none";
  std::vector<Bytes> pieces{};  ///< one for a stream, one for each datagram
};
inline void PrintTo(const Entry& entry, std::ostream* out) {
  *out << entry.file;
}

inline void add_hex(const std::string& line, Bytes& bytes) {
  for (std::size_t i = 0; i + 1 < line.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoul(line.substr(i, 2), nullptr, 16)));
  }
}

inline Entry read(const std::filesystem::path& path) {
  Entry entry{.file = path.stem().string()};
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const auto space = std::min(line.find(' '), line.size());
    const std::string word = line.substr(0, space);
    const std::string value = line.substr(std::min(space + 1, line.size()));
    if (word == "#") continue;
    if (word == "kind")
      entry.stream = value == "stream";
    else if (word == "outcome")
      entry.outcome = value;
    else if (word == "protocol")
      entry.protocol = value;
    else if (word == "name")
      entry.name = value;
    else if (word == "alpn")
      entry.alpn = value;
    else if (word == "ech")
      entry.ech = value == "yes";
    else if (word == "doubt")
      entry.doubt = value;
    else if (word == "bytes")
      entry.pieces.emplace_back();
    else
      add_hex(line, entry.pieces.back());
  }
  return entry;
}

/// All of them, by name; `stream` or datagrams.
inline std::vector<Entry> read_all(const std::filesystem::path& directory, bool stream) {
  std::vector<Entry> entries;
  for (const auto& file : std::filesystem::directory_iterator(directory)) {
    if (file.path().extension() != ".txt") continue;
    auto entry = read(file.path());
    if (entry.stream == stream) entries.push_back(std::move(entry));
  }
  std::ranges::sort(entries, {}, &Entry::file);
  return entries;
}

/// What was found, in the words of an entry.
inline Entry as_entry(SniffOutcome outcome, const Sniffed& sniffed) {
  return {.outcome = std::string(to_string(outcome)),
          .protocol = std::string(to_string(sniffed.protocol)),
          .name = std::string(sniffed.name.view()),
          .alpn = std::string(sniffed.alpn.view()),
          .ech = sniffed.ech,
          .doubt = std::string(to_string(sniffed.doubt))};
}
inline bool same_answer(const Entry& one, const Entry& other) {
  return one.outcome == other.outcome && one.protocol == other.protocol && one.name == other.name &&
         one.alpn == other.alpn && one.ech == other.ech && one.doubt == other.doubt;
}
inline std::string answer(const Entry& entry) {
  return entry.outcome + " " + entry.protocol + " name=" + entry.name + " alpn=" + entry.alpn +
         " ech=" + (entry.ech ? "yes" : "no") + " doubt=" + entry.doubt;
}

}  // namespace limpid::sniff_corpus
