// A reader with three states: outside of quotes, and inside of either kind.
#include "netcat/words.h"

namespace limpid {

Result<std::vector<std::string>> split_words(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false;
  char quote = '\0';
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quote != '\0' && c == quote) {
      quote = '\0';
    } else if (quote == '\0' && (c == '\'' || c == '"')) {
      quote = c;
      in_word = true;
    } else if (quote == '\0' && (c == ' ' || c == '\t' || c == '\n')) {
      if (in_word) words.push_back(std::move(word));
      word.clear();
      in_word = false;
    } else if (c == '\\' && quote != '\'') {
      if (i + 1 == text.size()) return usage_error("split", text, "it ends with a backslash", "write \\\\ for one");
      const char next = text[i + 1];
      if (quote == '\0' || next == '"' || next == '\\') {
        word += next;
        ++i;
      } else {
        word += c;
      }
      in_word = true;
    } else {
      word += c;
      in_word = true;
    }
  }
  if (quote != '\0') return usage_error("split", text, "a quote is not closed", R"(write \' or \" for one)");
  if (in_word) words.push_back(std::move(word));
  if (words.empty()) return usage_error("split", text, "there is no program in it", "for example \"cat -n\"");
  return words;
}

}  // namespace limpid
