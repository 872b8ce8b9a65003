// See cut_attach.h. There are no state files: whoever looks for an instance asks each interface for its programs, and those for their maps.
#include "cutthrough/cut_attach.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>

#include "net/bpf_object.h"
#include "net/netlink.h"
#include "net/tc_program.h"

namespace limpid {
namespace {

Result<std::vector<LinkInfo>> read_links() {
  auto socket = RouteSocket::open();
  if (!socket) return std::unexpected(socket.error());
  return socket->links();
}

/// Ours on one interface, with whose they are.
struct Ours {
  Attachment attachment;
  std::string name;
};

std::vector<Ours> ours_among(const std::vector<Attachment>& attachments) {
  std::vector<Ours> ours;
  for (const Attachment& attachment :
       with_names(attachments, {kCutIngress, kCutIngressHeadless, kCutEgress, kCutEgressHeadless})) {
    if (const auto found = find_cut_maps(attachment.program))
      ours.push_back({.attachment = attachment, .name = found->owner.name});
  }
  return ours;
}

Result<std::vector<Ours>> ours_at(int link) {
  const auto attachments = find_attachments(link);
  if (!attachments) return std::unexpected(attachments.error());
  return ours_among(*attachments);
}

Status take_away(const Attachment& attachment, const limpid_cut_link& facts) {
  if (auto detached = detach_program(attachment); !detached) return detached;
  if (attachment.mode == AttachMode::clsact && facts.own_clsact != 0) return remove_empty_clsact(attachment.link);
  return {};
}

/// tcx runs programs in their order. An interception that does not know of us may have put its own before ours, and would take packets of flows that
/// drain.
bool is_behind_interception(const std::vector<Attachment>& all, const Attachment& ours) {
  const auto interception = with_names(all, {"limpid_ingress"});
  return ours.mode == AttachMode::tcx && ours.side == TrafficSide::ingress &&
         std::ranges::any_of(interception, [&](const Attachment& other) {
           return other.mode == AttachMode::tcx && other.side == TrafficSide::ingress &&
                  std::ranges::find(all, other) < std::ranges::find(all, ours);
         });
}

/// What is there of an instance, on one side of one interface.
struct Place {
  bool is_there = false;  ///< the very program that is wanted
  std::optional<Attachment> replaced{};
};

/// Takes away what is neither wanted nor to be replaced. `program`: -1: none is wanted.
Result<Place> clear_place(int program, TrafficSide side, const CutThroughOptions& options, const LinkInfo& link,
                          const limpid_cut_link* known, AttachMode mode) {
  const std::uint32_t number = program < 0 ? 0 : info_of_program(program).id;
  const auto everybody = find_attachments(link.index);
  if (!everybody) return std::unexpected(everybody.error());
  Place place;
  for (const Ours& one : ours_among(*everybody)) {
    if (one.name != options.name || one.attachment.side != side) continue;
    if (one.attachment.program == number && one.attachment.mode == mode &&
        !is_behind_interception(*everybody, one.attachment)) {
      place.is_there = true;
    } else if (program >= 0 && one.attachment.program != number && one.attachment.mode == mode && !place.replaced) {
      place.replaced = one.attachment;
    } else if (auto taken = take_away(one.attachment, known == nullptr ? limpid_cut_link{} : *known); !taken) {
      return std::unexpected(taken.error());
    }
  }
  return place;
}

/// True if it is new.
Result<bool> attach_to(const CutPrograms& programs, const CutThroughOptions& options, const LinkInfo& link,
                       const limpid_cut_link* known, AttachMode mode) {
  const int in = link.ethernet ? programs.ethernet.get() : programs.headless.get();
  const int out = link.ethernet ? programs.egress.get() : programs.egress_headless.get();
  const auto ingress = clear_place(in, TrafficSide::ingress, options, link, known, mode);
  if (!ingress) return std::unexpected(ingress.error());
  const auto egress = clear_place(out, TrafficSide::egress, options, link, known, mode);
  if (!egress) return std::unexpected(egress.error());
  const bool complete = ingress->is_there && (out < 0 || egress->is_there);
  if (complete && known != nullptr) return false;
  limpid_cut_link facts{};
  facts.headless = !link.ethernet;
  if (mode == AttachMode::clsact) {
    const auto made = require_clsact(link.index);
    if (!made) return std::unexpected(made.error());
    facts.clsact = 1;
    facts.own_clsact = *made || (known != nullptr && known->own_clsact != 0);
  }
  // The programs look at the facts, so these come first.
  if (const int code = bpf_map_update_elem(programs.maps.links.get(), &link.index, &facts, BPF_ANY); code != 0)
    return bpf_error(-code, "write to", "map limpid_cut_link");
  const auto attach = [&](int program, TrafficSide side, const Place& place) -> Status {
    if (program < 0 || place.is_there) return {};
    return attach_program(program, link.index, side, mode, options.filter_priority,
                          place.replaced ? &*place.replaced : nullptr);
  };
  // What leaves is translated before anything is left to the kernel.
  if (auto attached = attach(out, TrafficSide::egress, *egress); !attached) return std::unexpected(attached.error());
  if (auto attached = attach(in, TrafficSide::ingress, *ingress); !attached) return std::unexpected(attached.error());
  return known == nullptr;
}

}  // namespace

Result<std::vector<std::string>> attach_to_links(const CutPrograms& programs, const CutThroughOptions& options) {
  const auto links = read_links();
  if (!links) return std::unexpected(links.error());
  const auto wanted = links_for_programs(*links, false);
  const AttachMode mode = preferred_attach_mode();
  std::map<int, limpid_cut_link> known;
  for (const auto& [index, facts] : all_links(programs.maps)) known[index] = facts;
  std::vector<std::string> names;
  for (const LinkInfo& link : wanted) {
    const auto at = known.find(link.index);
    const auto is_new = attach_to(programs, options, link, at == known.end() ? nullptr : &at->second, mode);
    if (!is_new && is_new.error().code != ENODEV) return std::unexpected(is_new.error());  // it may just have gone
    if (is_new && *is_new) names.push_back(link.name);
  }
  for (const auto& [index, facts] : known) {
    if (std::ranges::find(wanted, index, &LinkInfo::index) != wanted.end()) continue;
    if (std::ranges::find(*links, index, &LinkInfo::index) != links->end()) {  // it has become the port of a bridge
      if (const auto ours = ours_at(index)) {
        for (const Ours& one : *ours) {
          if (one.name == options.name) std::ignore = take_away(one.attachment, facts);
        }
      }
    }
    bpf_map_delete_elem(programs.maps.links.get(), &index);
  }
  return names;
}

Result<std::optional<FoundCutMaps>> find_attached(const std::string& name) {
  const auto links = read_links();
  if (!links) return std::unexpected(links.error());
  for (const LinkInfo& link : *links) {
    const auto ours = ours_at(link.index);
    if (!ours) return std::unexpected(ours.error());
    for (const Ours& one : *ours) {
      if (one.name != name) continue;
      if (auto found = find_cut_maps(one.attachment.program)) return std::optional(std::move(*found));
    }
  }
  return std::optional<FoundCutMaps>();
}

Result<bool> detach_everywhere(const std::string& name) {
  const auto links = read_links();
  if (!links) return std::unexpected(links.error());
  bool any = false;
  Status outcome;
  for (const LinkInfo& link : *links) {
    const auto ours = ours_at(link.index);
    if (!ours) return std::unexpected(ours.error());
    for (const Ours& one : *ours) {
      if (one.name != name) continue;
      any = true;
      limpid_cut_link facts{};
      if (const auto found = find_cut_maps(one.attachment.program); found && found->maps.links.valid())
        bpf_map_lookup_elem(found->maps.links.get(), &link.index, &facts);
      if (auto taken = take_away(one.attachment, facts); !taken && outcome) outcome = taken;
    }
  }
  if (!outcome) return std::unexpected(outcome.error());
  return any;
}

Result<std::vector<std::string>> find_cut_through() {
  const auto links = read_links();
  if (!links) return std::unexpected(links.error());
  std::set<std::string> names;
  for (const LinkInfo& link : *links) {
    const auto ours = ours_at(link.index);
    if (!ours) return std::unexpected(ours.error());
    for (const Ours& one : *ours) names.insert(one.name);
  }
  return std::vector<std::string>(names.begin(), names.end());
}

}  // namespace limpid
