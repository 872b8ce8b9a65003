// The first file that a reader opens: it must stand alone.
#include <fmt/format.h>

#include "sysdump/collect.h"

namespace limpid {

std::string make_manifest(const std::vector<SysdumpPart>& parts, std::string_view version, bool redacted) {
  std::string text = fmt::format("limpid sysdump, made by {}\n\n", version);
  text +=
      redacted
          ? "Addresses and names are pseudonyms: the same one always stands for the same address or name, networks "
            "stay networks, and nobody\n"
            "can compute what they were. Private ranges stay private, and the first bits of public addresses stay.\n"
          : "Addresses and names are the real ones (--with-addresses).\n";
  text += "Passwords and their like are hidden (***) in any case.\n\nThere is\n";
  for (const auto& part : parts) {
    if (part.missing.empty()) text += fmt::format("  {:<28} {} ({} bytes)\n", part.path, part.source, part.text.size());
  }
  text += "\nThere is not\n";
  bool all = true;
  for (const auto& part : parts) {
    if (part.missing.empty()) continue;
    all = false;
    text += fmt::format("  {:<28} {}: {}\n", part.path, part.source, part.missing);
  }
  if (all) text += "  nothing: everything could be had\n";
  return text;
}

}  // namespace limpid
