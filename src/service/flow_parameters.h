// GET /v1/flows and /v1/flows/ID in text: arguments as a query, a page or a flow as JSON. Pure.
#pragma once

#include <map>
#include <string>

#include "limpid/error.h"
#include "relay/flow_query.h"

namespace limpid {

/// client, target, original_destination, name, rule, upstream, protocol, state, cut_through; sort, limit, offset, after. An argument that is not known is
/// an error, so that a mistyped filter never means all flows.
[[nodiscard]] Result<FlowQuery> parse_flow_query(const std::map<std::string, std::string, std::less<>>& arguments);

/// One line.
[[nodiscard]] std::string to_json(const FlowPage& page, const FlowQuery& query);
/// One flow alone, with its legs.
[[nodiscard]] std::string to_json(const FlowView& view);

}  // namespace limpid
