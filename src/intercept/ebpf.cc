// Puts programs on interfaces, finds them, follows interfaces and takes programs away: the steps of ebpf.h, out of net/tc_program.h and ebpf_programs.h.
//
// There are no state files here either: who looks for an installation asks each interface for its programs, those for their maps, and reads map
// limpid_owner, which says what an nft table's comment would say. Programs are attached before those of others and pass packets on to them.
// An interface is known by its index; one that is made again is a new one, and is followed (follow_links()) by whoever keeps the plan.
#include "intercept/ebpf.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>
#include <tuple>
#include <utility>

#include "intercept/ebpf_pins.h"
#include "intercept/ebpf_programs.h"

namespace limpid {
namespace {

constexpr int kLoopback = 1;  // LOOPBACK_IFINDEX, include/net/flow.h
constexpr const char* kOtherVersion = "policy of another version";

Result<std::vector<LinkInfo>> read_links() {
  auto socket = RouteSocket::open();
  if (!socket) return std::unexpected(socket.error());
  return socket->links();
}

/// What the kernel delivers here: local routes (its own table's, not those of a table like ours) and broadcast addresses.
std::vector<Prefix> own_networks() {
  constexpr std::uint32_t kLocalTable = 255;
  std::vector<Prefix> own;
  auto socket = RouteSocket::open();
  if (!socket) return own;
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    const auto routes = socket->routes(family);
    if (!routes) continue;
    for (const RouteSpec& route : *routes) {
      if (route.local && route.table.value == kLocalTable) own.push_back(route.destination);
    }
  }
  const auto addresses = socket->addresses();
  if (!addresses) return own;
  for (const AddressInfo& info : *addresses) {
    if (info.address.family() == Family::ipv6 || info.prefix_length >= 31) continue;
    std::array<std::uint8_t, 16> bytes = info.address.bytes();
    for (unsigned bit = info.prefix_length; bit < 32; ++bit)
      bytes[bit / 8] = static_cast<std::uint8_t>(bytes[bit / 8] | 0x80U >> bit % 8);
    if (auto broadcast = Prefix::parse(IpAddress::from_bytes(Family::ipv4, bytes).to_string()))
      own.push_back(*broadcast);
  }
  return own;
}

bool wants_loopback(const PlanInputs& inputs) {
  return inputs.ownership.local || inputs.guards_listener;
}

std::vector<TrafficSide> sides_for(const PlanInputs& inputs, int link) {
  if (inputs.ownership.local && link != kLoopback) return {TrafficSide::ingress, TrafficSide::egress};
  return {TrafficSide::ingress};
}

limpid_interface facts_of(const LinkInfo& link, const PlanInputs& inputs) {
  const auto& names = inputs.scope.from_interfaces;
  limpid_interface facts{};
  facts.selected = std::ranges::find(names, link.name) != names.end();
  facts.headless = !link.ethernet && link.index != kLoopback;
  return facts;
}

const EbpfInstallation* find_by_name(const std::vector<EbpfInstallation>& all, const std::string& name) {
  const auto found = std::ranges::find_if(all, [&](const EbpfInstallation& e) { return e.ownership.name == name; });
  return found == all.end() ? nullptr : &*found;
}

const Attachment* attachment_at(const EbpfInstallation* installation, int link, TrafficSide side, AttachMode mode) {
  if (installation == nullptr) return nullptr;
  const auto found = std::ranges::find_if(installation->attachments, [&](const Attachment& a) {
    return a.link == link && a.side == side && a.mode == mode;
  });
  return found == installation->attachments.end() ? nullptr : &*found;
}

std::uint32_t number_of(int program_fd) {
  bpf_prog_info info{};
  std::uint32_t length = sizeof info;
  return bpf_obj_get_info_by_fd(program_fd, &info, &length) == 0 ? info.id : 0;
}

/// The programs and maps of what is installed, if they can serve this plan; empty: they must be replaced.
std::optional<EbpfPrograms> reusable(const EbpfInstallation* installed, const PlanInputs& inputs) {
  if (installed == nullptr || installed->version != LIMPID_BPF_VERSION || !installed->policy) return std::nullopt;
  std::optional<EbpfPrograms> programs;
  UniqueFd egress;
  for (const Attachment& attachment : installed->attachments) {
    if (attachment.side == TrafficSide::ingress && !programs) programs = EbpfPrograms::find(attachment.program);
    if (attachment.side == TrafficSide::egress && !egress.valid())
      egress = UniqueFd(bpf_prog_get_fd_by_id(attachment.program));
  }
  if (!programs || (inputs.ownership.local && !egress.valid())) return std::nullopt;
  programs->set_egress(std::move(egress));
  return programs;
}

/// One interface: its facts first, then the programs, since they look at the facts.
Status attach_to(EbpfPrograms& programs, const PlanInputs& inputs, const EbpfInstallation* installed,
                 const LinkInfo& link, AttachMode mode) {
  limpid_interface facts = facts_of(link, inputs);
  if (mode == AttachMode::clsact) {
    facts.clsact = 1;
    const auto made = require_clsact(link.index);
    if (!made) return std::unexpected(made.error());
    const auto before =
        installed == nullptr ? std::map<int, limpid_interface>::const_iterator() : installed->links.find(link.index);
    const bool was_ours = installed != nullptr && before != installed->links.end() && before->second.own_clsact != 0;
    facts.own_clsact = *made || was_ours;
  }
  if (auto written = programs.write_link(link.index, facts); !written) return written;
  const auto there_now = find_attachments(link.index);
  if (!there_now) return std::unexpected(there_now.error());
  // A flow that is cut through is forwarded before anybody asks for its socket.
  const auto cut_through = with_names(*there_now, {"limpid_cut_in", "limpid_cut_ip"});
  for (const TrafficSide side : sides_for(inputs, link.index)) {
    const int program = side == TrafficSide::ingress ? programs.ingress() : programs.egress();
    const Attachment* there = attachment_at(installed, link.index, side, mode);
    if (there != nullptr && there->program == number_of(program)) continue;
    if (auto attached =
            attach_program(program, link.index, side, mode, inputs.ownership.priority.value, there,
                           side == TrafficSide::ingress && !cut_through.empty() ? cut_through.front().program : 0);
        !attached) {
      // It has gone in the meantime.
      if (attached.error().code == ENODEV) return {};
      return attached;
    }
  }
  return {};
}

/// What is attached where the plan has nothing: in the other mode, at interfaces that became ports, at egress.
Status detach_surplus(const EbpfPrograms& programs, const PlanInputs& inputs, const std::vector<LinkInfo>& links,
                      AttachMode mode) {
  const auto all = find_ebpf();
  if (!all) return std::unexpected(all.error());
  const std::set<std::uint32_t> ours = {number_of(programs.ingress()), number_of(programs.egress())};
  for (const EbpfInstallation& installation : *all) {
    if (installation.ownership.name != inputs.ownership.name) continue;
    for (const Attachment& attachment : installation.attachments) {
      const auto sides = sides_for(inputs, attachment.link);
      const bool belongs = std::ranges::find(links, attachment.link, &LinkInfo::index) != links.end() &&
                           std::ranges::find(sides, attachment.side) != sides.end() && attachment.mode == mode &&
                           ours.contains(attachment.program);
      if (belongs) continue;
      if (auto detached = detach_program(attachment); !detached) return detached;
      const auto facts = installation.links.find(attachment.link);
      const bool own_clsact = facts != installation.links.end() && facts->second.own_clsact != 0;
      if (attachment.mode == AttachMode::clsact && own_clsact) std::ignore = remove_empty_clsact(attachment.link);
    }
  }
  return {};
}

std::string listing_of(const std::vector<std::string>& policy, std::vector<std::string> places) {
  std::ranges::sort(places);
  return fmt::format("{}\n{}\n", fmt::join(policy, "\n"), fmt::join(places, "\n"));
}

std::string place(AttachMode mode, TrafficSide side, std::string_view link, const limpid_interface& facts) {
  return fmt::format("attached {} {} {}{}", to_string(mode), to_string(side), link,
                     facts.selected != 0 ? " selected" : "");
}

std::string name_of(const std::vector<LinkInfo>& links, int index) {
  const auto found = std::ranges::find(links, index, &LinkInfo::index);
  return found == links.end() ? fmt::format("{}", index) : found->name;
}

}  // namespace

std::string EbpfInstallation::to_string() const {
  return fmt::format("eBPF programs of \"{}\" on {}", ownership.name, fmt::join(link_names, ", "));
}

Result<std::vector<EbpfInstallation>> find_ebpf() {
  std::vector<EbpfInstallation> found;
  if (!require_ebpf_built_in()) return found;
  const auto links = read_links();
  if (!links) return std::unexpected(links.error());
  std::map<std::uint32_t, std::optional<std::uint32_t>> installation_of;  // by program
  for (const LinkInfo& link : *links) {
    const auto attachments = find_attachments(link.index);
    if (!attachments) return std::unexpected(attachments.error());
    for (const Attachment& attachment : *attachments) {
      if (!installation_of.contains(attachment.program))
        installation_of[attachment.program] = EbpfPrograms::installation_of(attachment.program);
      const auto id = installation_of[attachment.program];
      if (!id) continue;
      auto installation = std::ranges::find(found, *id, &EbpfInstallation::id);
      if (installation == found.end()) {
        const auto programs = EbpfPrograms::find(attachment.program);
        const auto owner =
            programs ? programs->owner() : Result<limpid_owner>(failure("find", "program", "it has gone"));
        if (!owner || !check_instance_name(owner->name)) continue;
        auto ownership = Ownership::from_comment(owner->name, owner->comment, Backend::ebpf);
        if (!ownership) continue;
        EbpfInstallation fresh{.ownership = std::move(*ownership),
                               .version = owner->version,
                               .id = *id,
                               .policy = {},
                               .attachments = {},
                               .links = {},
                               .link_names = {}};
        if (fresh.version == LIMPID_BPF_VERSION) {
          if (auto policy = programs->read_policy()) fresh.policy = std::move(*policy);
        }
        // Whatever the version: they say which qdiscs go with it.
        for (const auto& [index, facts] : programs->links()) fresh.links[index] = facts;
        found.push_back(std::move(fresh));
        installation = std::prev(found.end());
      }
      installation->attachments.push_back(attachment);
      if (std::ranges::find(installation->link_names, link.name) == installation->link_names.end())
        installation->link_names.push_back(link.name);
    }
  }
  return found;
}

Result<std::optional<std::string>> find_missing_ebpf_feature() {
  if (auto built = require_ebpf_built_in(); !built) return std::optional(built.error().cause);
  Ownership nobody;
  const auto loaded = EbpfPrograms::load(nobody);
  if (loaded) return std::optional<std::string>();
  return std::optional(loaded.error().message());
}

bool ebpf_takes_reuseport() {
  return has_tcx();
}

bool has_bpf_file_system() {
  return !pin_folder({}).empty();
}

Status check_ebpf(const Plan& plan) {
  if (auto built = require_ebpf_built_in(); !built) return built;
  if (auto policy = make_ebpf_policy(plan.inputs); !policy) return std::unexpected(policy.error());
  if (auto loaded = EbpfPrograms::load(plan.inputs.ownership); !loaded) return std::unexpected(loaded.error());
  return {};
}

Status install_ebpf(const Plan& plan) {
  const PlanInputs& inputs = plan.inputs;
  const auto policy = make_ebpf_policy(inputs);
  if (!policy) return std::unexpected(policy.error());
  const auto all = find_ebpf();
  if (!all) return std::unexpected(all.error());
  const EbpfInstallation* installed = find_by_name(*all, inputs.ownership.name);
  auto programs = reusable(installed, inputs);
  if (!programs) {
    auto loaded = EbpfPrograms::load(inputs.ownership);
    if (!loaded) return std::unexpected(loaded.error());
    programs = std::move(*loaded);
    if (auto attached = programs->attach_reopening(); !attached) return attached;
  }
  if (auto written = programs->write_own(own_networks()); !written) return written;
  if (auto written = programs->write_owner(inputs.ownership); !written) return written;
  if (auto written = programs->write_policy(*policy); !written) return written;
  const auto links = read_links();
  if (!links) return std::unexpected(links.error());
  const auto wanted = links_for_programs(*links, wants_loopback(inputs));
  const AttachMode mode = preferred_attach_mode();
  for (const LinkInfo& link : wanted) {
    if (auto attached = attach_to(*programs, inputs, installed, link, mode); !attached) {
      // Half of a new installation is of no use; half of one that replaces another is better than none.
      if (installed == nullptr) {
        if (const auto half = find_ebpf()) {
          if (const EbpfInstallation* ours = find_by_name(*half, inputs.ownership.name))
            std::ignore = remove_ebpf(*ours);
        }
      }
      return attached;
    }
  }
  if (auto detached = detach_surplus(*programs, inputs, wanted, mode); !detached) return detached;
  for (const auto& [index, facts] : programs->links()) {
    if (std::ranges::find(wanted, index, &LinkInfo::index) == wanted.end()) std::ignore = programs->forget_link(index);
  }
  return pin_programs(inputs.ownership.name, *programs);
}

Status drain_ebpf(const Plan& plan) {
  const auto all = find_ebpf();
  if (!all) return std::unexpected(all.error());
  for (const EbpfInstallation& installation : *all) {
    if (installation.ownership.name != plan.inputs.ownership.name) continue;
    auto programs = EbpfPrograms::find(installation.attachments.front().program);
    if (!programs) continue;
    if (auto draining = programs->begin_drain(); !draining) return draining;
  }
  return {};
}

Status remove_ebpf(const EbpfInstallation& installation) {
  Status outcome;
  // Those at interfaces that are in other network namespaces by now cannot be detached: without a link of ours they let everything pass.
  auto programs =
      installation.attachments.empty() ? std::nullopt : EbpfPrograms::find(installation.attachments.front().program);
  for (const Attachment& attachment : installation.attachments) {
    if (auto detached = detach_program(attachment); !detached && outcome) outcome = std::unexpected(detached.error());
  }
  for (const auto& [index, facts] : installation.links) {
    if (programs) std::ignore = programs->forget_link(index);
    if (facts.own_clsact == 0) continue;
    if (auto removed = remove_empty_clsact(index); !removed && outcome) outcome = std::unexpected(removed.error());
  }
  unpin_programs(installation.ownership.name);
  return outcome;
}

Result<std::vector<std::string>> follow_links(const Plan& plan) {
  std::vector<std::string> names;
  const auto all = find_ebpf();
  if (!all) return std::unexpected(all.error());
  const EbpfInstallation* installed = find_by_name(*all, plan.inputs.ownership.name);
  auto programs = reusable(installed, plan.inputs);
  if (!programs) return names;  // all of it has gone: that is for a repair
  const auto links = read_links();
  if (!links) return std::unexpected(links.error());
  const auto wanted = links_for_programs(*links, wants_loopback(plan.inputs));
  for (const auto& [index, facts] : installed->links) {
    if (std::ranges::find(wanted, index, &LinkInfo::index) != wanted.end()) continue;
    for (const Attachment& attachment : installed->attachments) {
      if (attachment.link != index) continue;
      if (auto detached = detach_program(attachment); !detached) return std::unexpected(detached.error());
    }
    if (facts.own_clsact != 0) std::ignore = remove_empty_clsact(index);
    std::ignore = programs->forget_link(index);
  }
  for (const LinkInfo& link : wanted) {
    const auto known = installed->links.find(link.index);
    const bool is_new = known == installed->links.end();
    // A name that was given to another interface.
    if (!is_new && known->second.selected == facts_of(link, plan.inputs).selected) continue;
    if (auto attached = attach_to(*programs, plan.inputs, installed, link, preferred_attach_mode()); !attached)
      return std::unexpected(attached.error());
    if (is_new) names.push_back(link.name);
  }
  std::ignore = programs->write_own(own_networks());
  return names;
}

Result<std::string> planned_ebpf_listing(const Plan& plan) {
  const auto policy = make_ebpf_policy(plan.inputs);
  if (!policy) return std::unexpected(policy.error());
  const auto links = read_links();
  if (!links) return std::unexpected(links.error());
  const AttachMode mode = preferred_attach_mode();
  std::vector<std::string> places;
  for (const LinkInfo& link : links_for_programs(*links, wants_loopback(plan.inputs))) {
    for (const TrafficSide side : sides_for(plan.inputs, link.index))
      places.push_back(place(mode, side, link.name, facts_of(link, plan.inputs)));
  }
  return listing_of(to_lines(*policy), std::move(places));
}

Result<std::string> live_ebpf_listing(const Plan& plan) {
  const auto all = find_ebpf();
  if (!all) return std::unexpected(all.error());
  const EbpfInstallation* installed = find_by_name(*all, plan.inputs.ownership.name);
  if (installed == nullptr) return std::string();
  const auto links = read_links();
  if (!links) return std::unexpected(links.error());
  std::vector<std::string> places;
  for (const Attachment& attachment : installed->attachments) {
    const auto facts = installed->links.find(attachment.link);
    places.push_back(place(attachment.mode, attachment.side, name_of(*links, attachment.link),
                           facts == installed->links.end() ? limpid_interface{} : facts->second));
  }
  return listing_of(installed->policy ? to_lines(*installed->policy) : std::vector<std::string>{kOtherVersion},
                    std::move(places));
}

Result<EbpfListings> settled_ebpf_listings(const Plan& plan) {
  const auto policy = make_ebpf_policy(plan.inputs);
  if (!policy) return std::unexpected(policy.error());
  const auto all = find_ebpf();
  if (!all) return std::unexpected(all.error());
  const EbpfInstallation* installed = find_by_name(*all, plan.inputs.ownership.name);
  EbpfListings listings;
  if (installed == nullptr) return listings;
  const auto links = read_links();
  if (!links) return std::unexpected(links.error());
  std::vector<std::string> planned;
  std::vector<std::string> live;
  const AttachMode mode = preferred_attach_mode();
  for (const LinkInfo& link : links_for_programs(*links, wants_loopback(plan.inputs))) {
    const auto facts = installed->links.find(link.index);
    if (facts == installed->links.end()) continue;
    for (const TrafficSide side : sides_for(plan.inputs, link.index))
      planned.push_back(place(mode, side, link.name, facts_of(link, plan.inputs)));
    for (const Attachment& attachment : installed->attachments) {
      if (attachment.link != link.index) continue;
      live.push_back(place(attachment.mode, attachment.side, link.name, facts->second));
    }
  }
  listings.planned = listing_of(to_lines(*policy), std::move(planned));
  listings.live = listing_of(installed->policy ? to_lines(*installed->policy) : std::vector<std::string>{kOtherVersion},
                             std::move(live));
  return listings;
}

Result<std::optional<int>> ask_ebpf(const EbpfInstallation& installation, const EbpfQuestion& question) {
  const TrafficSide side = question.user ? TrafficSide::egress : TrafficSide::ingress;
  const auto here = std::ranges::find_if(installation.attachments, [&](const Attachment& attachment) {
    return attachment.link == question.link && attachment.side == side;
  });
  if (here == installation.attachments.end()) return std::optional<int>();
  const auto installed = EbpfPrograms::find(here->program);
  if (!installed || installation.version != LIMPID_BPF_VERSION)
    return failure("ask", "eBPF program", "it has gone, or is of another version of Limpid");
  auto copy = EbpfPrograms::load(installation.ownership);
  if (!copy) return std::unexpected(copy.error());
  if (auto copied = copy->copy_state(*installed); !copied) return std::unexpected(copied.error());
  const auto decision = copy->try_packet(question);
  if (!decision) return std::unexpected(decision.error());
  return std::optional(*decision);
}

Result<std::map<std::string, std::uint64_t>> ebpf_counters(const std::string& name) {
  std::map<std::string, std::uint64_t> named;
  const auto all = find_ebpf();
  if (!all) return std::unexpected(all.error());
  const EbpfInstallation* installed = find_by_name(*all, name);
  const auto programs =
      installed == nullptr ? std::nullopt : EbpfPrograms::find(installed->attachments.front().program);
  if (!programs) return named;
  const auto totals = programs->counters();
  if (!totals) return std::unexpected(totals.error());
  for (std::size_t i = 0; i < totals->size(); ++i) {
    if (const auto text = decision_name(static_cast<int>(i)); !text.empty()) named[std::string(text)] = (*totals)[i];
  }
  return named;
}

std::string_view decision_name(int decision) {
  switch (decision) {
    case LIMPID_OTHER_PROTOCOL: return "other protocol";
    case LIMPID_TAGGED: return "VLAN tag";
    case LIMPID_NOT_ADDRESSED: return "not addressed to this host";
    case LIMPID_MALFORMED: return "malformed";
    case LIMPID_OWN_SOCKET: return "own socket";
    case LIMPID_OTHER_FAMILY: return "other family";
    case LIMPID_OTHER_PORT: return "other port";
    case LIMPID_UNKNOWN_CONNECTION: return "unknown connection";
    case LIMPID_LOCAL_DESTINATION: return "local destination";
    case LIMPID_EXCLUDED_DESTINATION: return "excluded destination";
    case LIMPID_OTHER_DESTINATION: return "other destination";
    case LIMPID_OTHER_SOURCE: return "other source";
    case LIMPID_OTHER_PROGRAM: return "other program";
    case LIMPID_ANSWER: return "answer of a server here";
    case LIMPID_FRAGMENT: return "fragment";
    case LIMPID_NOBODY_LISTENS: return "nobody listens";
    case LIMPID_DIVERTED: return "diverted";
    case LIMPID_INTERCEPTED: return "intercepted";
    case LIMPID_TO_LOOPBACK: return "to loopback";
    case LIMPID_REJECTED: return "rejected";
    case LIMPID_DROPPED: return "dropped";
    default: return {};
  }
}

}  // namespace limpid
