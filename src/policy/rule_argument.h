// One argument of a condition or an action, as written: what stands between brackets and commas.
#pragma once

#include <cstddef>
#include <string>

namespace limpid {

/// `suffix: example.com`, `10.0.0.0/8`, `@lan`.
struct RuleArgument {
  std::string key;  ///< before the colon, where this condition or action knows keys
  std::string value;
  std::size_t column = 1;
  [[nodiscard]] bool is_set() const { return value.starts_with('@'); }
};

}  // namespace limpid
