// What the operator asks about living flows, as values: names of flows, a view of one, a filter, an order, a page. Pure: who owns the flows is asked
// elsewhere (flow_errand.h).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "limpid/address.h"
#include "limpid/error.h"
#include "limpid/prefix.h"
#include "policy/decision.h"
#include "relay/flow.h"
#include "relay/flow_record.h"
#include "relay/leg_addresses.h"

namespace limpid {

/// Names a living flow among all of them. Never given to another one while the relay lives.
struct FlowName {
  enum class Kind : std::uint8_t {
    tcp,      ///< of a worker: "t0-17-3"
    udp,      ///< of a worker's UDP engine: "u0-17-3"
    cut_tcp,  ///< without sockets, cut through: "c12"
    cut_udp,  ///< the same of datagrams, which go by their addresses: "d192.0.2.2:5000,198.51.100.2:53"
  };
  Kind kind = Kind::tcp;
  std::uint16_t worker = 0;
  std::uint32_t index = 0;
  std::uint32_t generation = 0;
  std::uint64_t number = 0;                 ///< cut_tcp
  SocketAddress client = {};                ///< cut_udp
  SocketAddress original_destination = {};  ///< cut_udp

  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] static Result<FlowName> parse(std::string_view text);
};

/// The order in which pages without another order show flows. It never changes while a flow lives, so pages that begin behind the last name of the page
/// before show every flow once that lives all the time. Generations do not count: the flow that took a slot stands in its place.
[[nodiscard]] bool comes_before(const FlowName& one, const FlowName& other) noexcept;

struct FlowView {
  FlowName name;
  std::string_view state;  ///< of FlowState; of datagrams: "unanswered", "relaying"; without sockets: "cut_through"
  Protocol protocol = Protocol::tcp;
  bool cut_through = false;
  SourceMode source = SourceMode::none;
  SocketAddress client;
  SocketAddress original_destination;
  SocketAddress target;  ///< port 0: not dialled yet
  std::uint64_t bytes_up = 0;
  std::uint64_t bytes_down = 0;
  std::uint64_t age_ms = 0;
  std::uint64_t idle_ms = 0;
  std::string_view upstream{};     ///< its name, which lives as long as the relay; empty: none
  Ruling ruling{};                 ///< left empty where it does not match anyway
  std::optional<FlowLegs> legs{};  ///< only where one flow was asked for by its name
};

[[nodiscard]] std::string_view to_string(FlowState state) noexcept;

/// "192.0.2.0/24", "192.0.2.2", "192.0.2.2:80", "[2001:db8::1]:80", ":443".
struct AddressPattern {
  std::optional<Prefix> network;
  Port port;  ///< 0: any
  [[nodiscard]] static Result<AddressPattern> parse(std::string_view text);
  [[nodiscard]] bool matches(const SocketAddress& address) const noexcept;
};

/// Whatever is not given matches everything.
struct FlowFilter {
  std::optional<AddressPattern> client;
  std::optional<AddressPattern> target;
  std::optional<AddressPattern> original_destination;
  std::string name;  ///< lower case; it or a name below it
  std::optional<std::uint32_t> rule;
  std::string upstream;
  std::optional<Protocol> protocol;
  std::string state;
  std::optional<bool> cut_through;
};
/// `ruling` is the flow's: the view need not have it yet.
[[nodiscard]] bool matches(const FlowFilter& filter, const FlowView& view, const Ruling& ruling) noexcept;

enum class FlowOrder : std::uint8_t {
  name,   ///< as comes_before() has it
  bytes,  ///< those with the most first; both directions together
  age,    ///< the oldest first
  idle,   ///< the most silent first
};

struct FlowQuery {
  static constexpr std::size_t kMostOnPage = 1000;
  static constexpr std::size_t kLargestOffset = 10'000;

  FlowFilter filter{};
  FlowOrder order = FlowOrder::name;
  bool reversed = false;            ///< not by name
  std::size_t limit = 100;          ///< 1 to kMostOnPage
  std::size_t offset = 0;           ///< 0 to kLargestOffset
  std::optional<FlowName> after{};  ///< by name only: begins behind it
  /// How many must be kept by each who is asked, for the page to be right: one more than it shows, by name, to know whether there are more.
  [[nodiscard]] std::size_t most_kept() const noexcept { return offset + limit + (order == FlowOrder::name ? 1 : 0); }
};
/// Whether `one` is shown before `other`.
[[nodiscard]] bool shown_before(const FlowQuery& query, const FlowView& one, const FlowView& other) noexcept;

/// What was found so far: at most most_kept() views, the first ones of the order.
class FlowCollection {
 public:
  explicit FlowCollection(const FlowQuery& query);  ///< allocates all it will need; the query outlives it
  /// Nothing more is needed: by name, and as many as are kept. Views come in the order of names then.
  [[nodiscard]] bool is_full() const noexcept;
  /// One that matches.
  void add(FlowView view) noexcept;
  [[nodiscard]] std::uint64_t matched() const noexcept { return matched_; }
  [[nodiscard]] std::vector<FlowView>& views() noexcept { return views_; }
  /// Those of both, and what both matched.
  void merge(FlowCollection&& other) noexcept;

 private:
  const FlowQuery& query_;
  std::vector<FlowView> views_;  ///< other than by name: a heap, the last one of the order in front
  std::uint64_t matched_ = 0;
};

struct FlowPage {
  std::vector<FlowView> flows;
  std::optional<std::uint64_t>
      matched;                   ///< how many match altogether; empty: nobody has counted, because the page was full
  std::optional<FlowName> next;  ///< by name: there are more behind it
};
/// Sorts, and takes the page out of it.
[[nodiscard]] FlowPage make_page(const FlowQuery& query, FlowCollection& found);

}  // namespace limpid
