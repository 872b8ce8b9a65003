// Conditions about ClientFacts: iif, dscp, mac, uid, cgroup, gid, process. What a client does not have meets none of them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "limpid/error.h"
#include "policy/client_facts.h"
#include "policy/range_set.h"
#include "policy/rule_argument.h"
#include "policy/rule_lexer.h"

namespace limpid {

struct InterfaceIn {
  std::vector<std::string> names;
};
struct DscpIn {
  std::uint64_t values = 0;  ///< a bit for each
};
struct MacIn {
  std::vector<MacAddress> addresses;  ///< sorted
};
struct UserIn {
  RangeSet users;
};
struct CgroupIn {
  std::vector<std::string> paths;  ///< each with all below; with a leading '/', without one at the end
};
struct GroupIn {
  RangeSet groups;
};
struct ProcessIn {
  std::vector<std::string> programs;  ///< file names, or whole paths
};
using ClientTest = std::variant<InterfaceIn, DscpIn, MacIn, UserIn, CgroupIn, GroupIn, ProcessIn>;

/// Which facts it looks at.
[[nodiscard]] Fact fact_of(const ClientTest& test) noexcept;
/// With these known.
[[nodiscard]] bool is_met(const ClientTest& test, const ClientFacts& facts) noexcept;

/// Whether `name` is one of these conditions.
[[nodiscard]] bool is_client_test(std::string_view name) noexcept;
/// Reads what stands in its brackets. User and group names are looked up now.
[[nodiscard]] Result<ClientTest> read_client_test(std::string_view name, const std::vector<RuleArgument>& given,
                                                  const RuleLexer& lexer);

/// "aa:bb:cc:dd:ee:ff".
[[nodiscard]] std::string to_string(const MacAddress& address);

}  // namespace limpid
