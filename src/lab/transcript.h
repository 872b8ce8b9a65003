// How the demonstration speaks: headings, labelled lines, and promises that are kept or broken. On stdout.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace limpid {

class Transcript {
 public:
  /// Colours only on a terminal, and not when NO_COLOR is set (https://no-color.org).
  Transcript();

  void heading(std::string_view text);
  /// "   label          text".
  void line(std::string_view label, std::string_view text);
  /// The same with ✓ or ✗ in front.
  void promise(bool kept, std::string_view label, std::string_view text);
  /// Verbatim, indented and dimmed.
  void block(const std::vector<std::string>& lines);

 private:
  void print(std::string_view mark, std::string_view colour, std::string_view label, std::string_view text) const;
  bool colours_;
};

}  // namespace limpid
