// Text of names and patterns, comparison, and a heap of bounded size for the orders that need every flow to be looked at.
#include "relay/flow_query.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <tuple>
#include <utility>

namespace limpid {
namespace {

template <class Number>
bool take_number(std::string_view& text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

bool take(std::string_view& text, char wanted) {
  if (!text.starts_with(wanted)) return false;
  text.remove_prefix(1);
  return true;
}

std::unexpected<Error> no_name(std::string_view text) {
  return usage_error("flow", text, "not the name of a flow", "`limpid flows` shows them: t0-17-3, u0-4-1, c12");
}

/// Where names of a kind stand in the order: those of workers mixed by worker, the others behind them.
std::uint64_t section(const FlowName& name) noexcept {
  switch (name.kind) {
    case FlowName::Kind::tcp: return std::uint64_t{name.worker} * 2;
    case FlowName::Kind::udp: return std::uint64_t{name.worker} * 2 + 1;
    case FlowName::Kind::cut_tcp: return std::uint64_t{1} << 32U;
    case FlowName::Kind::cut_udp: return std::uint64_t{2} << 32U;
  }
  return 0;
}

std::uint64_t measure(FlowOrder order, const FlowView& view) noexcept {
  switch (order) {
    case FlowOrder::name: return 0;
    case FlowOrder::bytes: return view.bytes_up + view.bytes_down;
    case FlowOrder::age: return view.age_ms;
    case FlowOrder::idle: return view.idle_ms;
  }
  return 0;
}

bool is_at_or_below(std::string_view name, std::string_view domain) noexcept {
  if (!name.ends_with(domain)) return false;
  return name.size() == domain.size() || name[name.size() - domain.size() - 1] == '.';
}

}  // namespace

std::string FlowName::to_string() const {
  switch (kind) {
    case Kind::tcp: return fmt::format("t{}-{}-{}", worker, index, generation);
    case Kind::udp: return fmt::format("u{}-{}-{}", worker, index, generation);
    case Kind::cut_tcp: return fmt::format("c{}", number);
    case Kind::cut_udp: return fmt::format("d{},{}", client.to_string(), original_destination.to_string());
  }
  return {};
}

Result<FlowName> FlowName::parse(std::string_view text) {
  FlowName name;
  std::string_view rest = text;
  if (take(rest, 'd')) {
    const auto comma = rest.find(',');
    if (comma == std::string_view::npos) return no_name(text);
    const auto client = SocketAddress::parse(rest.substr(0, comma));
    const auto original = SocketAddress::parse(rest.substr(comma + 1));
    if (!client || !original) return no_name(text);
    name.kind = Kind::cut_udp;
    name.client = *client;
    name.original_destination = *original;
    return name;
  }
  if (take(rest, 'c')) {
    name.kind = Kind::cut_tcp;
    if (!take_number(rest, name.number) || !rest.empty()) return no_name(text);
    return name;
  }
  name.kind = rest.starts_with('u') ? Kind::udp : Kind::tcp;
  if (!take(rest, name.kind == Kind::udp ? 'u' : 't')) return no_name(text);
  if (!take_number(rest, name.worker) || !take(rest, '-') || !take_number(rest, name.index) || !take(rest, '-') ||
      !take_number(rest, name.generation) || !rest.empty()) {
    return no_name(text);
  }
  return name;
}

bool comes_before(const FlowName& one, const FlowName& other) noexcept {
  return std::tuple(section(one), one.index, one.number, one.client, one.original_destination) <
         std::tuple(section(other), other.index, other.number, other.client, other.original_destination);
}

std::string_view to_string(FlowState state) noexcept {
  switch (state) {
    case FlowState::introducing: return "introducing";
    case FlowState::deciding: return "deciding";
    case FlowState::resolving: return "resolving";
    case FlowState::ignoring: return "ignoring";
    case FlowState::connecting: return "connecting";
    case FlowState::handshaking: return "handshaking";
    case FlowState::relaying: return "relaying";
    case FlowState::lingering: return "lingering";
    case FlowState::leaving: return "leaving";
  }
  return "";
}

Result<AddressPattern> AddressPattern::parse(std::string_view text) {
  AddressPattern pattern;
  const auto wrong = [&] {
    return usage_error("address", text, "neither an address, a network, nor a port",
                       "192.0.2.2, 192.0.2.0/24, 192.0.2.2:80, [2001:db8::1]:80 or :443");
  };
  if (std::string_view rest = text; take(rest, ':') && !rest.starts_with(':')) {
    if (!take_number(rest, pattern.port.value) || !rest.empty() || pattern.port.value == 0) return wrong();
    return pattern;
  }
  if (const auto network = Prefix::parse(text)) {
    pattern.network = *network;
    return pattern;
  }
  const auto address = SocketAddress::parse(text);
  if (!address) return wrong();
  const auto network = Prefix::parse(address->address.to_string());
  if (!network || address->port.value == 0) return wrong();
  pattern.network = *network;
  pattern.port = address->port;
  return pattern;
}

bool AddressPattern::matches(const SocketAddress& address) const noexcept {
  if (port.value != 0 && address.port != port) return false;
  return !network || (network->family() == address.family() && network->contains(address.address));
}

bool matches(const FlowFilter& filter, const FlowView& view, const Ruling& ruling) noexcept {
  if (filter.client && !filter.client->matches(view.client)) return false;
  if (filter.original_destination && !filter.original_destination->matches(view.original_destination)) return false;
  if (filter.target && (view.target.port.value == 0 || !filter.target->matches(view.target))) return false;
  if (filter.rule && ruling.rule != *filter.rule) return false;
  if (!filter.name.empty() && !is_at_or_below(ruling.name(), filter.name)) return false;
  if (!filter.upstream.empty() && view.upstream != filter.upstream) return false;
  if (filter.protocol && view.protocol != *filter.protocol) return false;
  if (!filter.state.empty() && view.state != filter.state) return false;
  return !filter.cut_through || view.cut_through == *filter.cut_through;
}

bool shown_before(const FlowQuery& query, const FlowView& one, const FlowView& other) noexcept {
  const std::uint64_t a = measure(query.order, one);
  const std::uint64_t b = measure(query.order, other);
  if (a != b) return query.reversed ? a < b : a > b;
  return comes_before(one.name, other.name);
}

FlowCollection::FlowCollection(const FlowQuery& query) : query_(query) {
  views_.reserve(query.most_kept());
}

bool FlowCollection::is_full() const noexcept {
  return query_.order == FlowOrder::name && views_.size() >= query_.most_kept();
}

void FlowCollection::add(FlowView view) noexcept {
  ++matched_;
  if (query_.order == FlowOrder::name) {
    if (views_.size() < query_.most_kept()) views_.push_back(std::move(view));
    return;
  }
  const auto before = [this](const FlowView& one, const FlowView& other) { return shown_before(query_, one, other); };
  if (views_.size() == query_.most_kept()) {
    if (!before(view, views_.front())) return;
    std::ranges::pop_heap(views_, before);
    views_.pop_back();
  }
  views_.push_back(std::move(view));
  std::ranges::push_heap(views_, before);
}

void FlowCollection::merge(FlowCollection&& other) noexcept {
  const std::uint64_t matched = matched_ + other.matched_;
  for (FlowView& view : other.views_) add(std::move(view));
  other.views_.clear();
  matched_ = matched;
}

FlowPage make_page(const FlowQuery& query, FlowCollection& found) {
  FlowPage page;
  auto& views = found.views();
  std::ranges::sort(views, [&](const FlowView& one, const FlowView& other) { return shown_before(query, one, other); });
  const std::size_t first = std::min(query.offset, views.size());
  const std::size_t last = std::min(first + query.limit, views.size());
  const bool more = query.order == FlowOrder::name && last < views.size();
  page.flows.assign(std::make_move_iterator(views.begin() + static_cast<std::ptrdiff_t>(first)),
                    std::make_move_iterator(views.begin() + static_cast<std::ptrdiff_t>(last)));
  if (more && !page.flows.empty()) page.next = page.flows.back().name;
  if (!more && !query.after) page.matched = found.matched();
  return page;
}

}  // namespace limpid
