// See tc_program.h. Programs are attached, not linked: a bpf_link would end with our process unless it is pinned, and fail-closed must not.
#include "net/tc_program.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <libmnl/libmnl.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "limpid/unique_fd.h"
#include "net/netlink_message.h"
#include "net/netlink_socket.h"

namespace limpid {
namespace {

// include/uapi/linux/bpf.h of Linux 6.6; the headers that we build with are older.
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);  // BPF_TCX_INGRESS
constexpr auto kTcxEgress = static_cast<bpf_attach_type>(47);   // BPF_TCX_EGRESS
constexpr unsigned kBefore = 1U << 3;                           // BPF_F_BEFORE: without a relative, the first of all
constexpr unsigned kAfter = 1U << 4;                            // BPF_F_AFTER
constexpr unsigned kById = 1U << 5;                             // BPF_F_ID
constexpr std::uint32_t kFilterHandle = 1;
constexpr std::uint32_t kMostPrograms = 64;  // BPF_MPROG_MAX
constexpr int kLoopback = 1;                 // LOOPBACK_IFINDEX, include/net/flow.h

/// What bpf(2) takes for BPF_PROG_ATTACH since Linux 6.6; libbpf 1.1 knows no relatives.
struct AttachRequest {
  std::uint32_t link;
  std::uint32_t program;
  std::uint32_t type;
  std::uint32_t flags;
  std::uint32_t replaced;
  std::uint32_t relative;
  std::uint64_t revision;
};

bpf_attach_type tcx_type(TrafficSide side) {
  return side == TrafficSide::ingress ? kTcxIngress : kTcxEgress;
}

bpf_tc_hook hook_of(int link, TrafficSide side) {
  bpf_tc_hook hook{};
  hook.sz = sizeof hook;
  hook.ifindex = link;
  hook.attach_point = side == TrafficSide::ingress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
  return hook;
}

std::string name_of(int link, TrafficSide side) {
  return fmt::format("{} of interface {}", to_string(side), link);
}

void find_by_tcx(int link, TrafficSide side, std::vector<Attachment>& found) {
  std::array<std::uint32_t, kMostPrograms> programs{};
  std::uint32_t count = programs.size();
  std::uint32_t flags = 0;
  // EINVAL: a kernel without tcx. EPERM: not for us to see.
  if (bpf_prog_query(link, tcx_type(side), 0, &flags, programs.data(), &count) != 0) return;
  for (std::uint32_t i = 0; i < std::min<std::uint32_t>(count, programs.size()); ++i)
    found.push_back({.link = link, .side = side, .mode = AttachMode::tcx, .program = programs[i]});
}

struct Filters {
  std::vector<Attachment> programs;
  std::size_t others = 0;  ///< of another kind
};

int keep_program(const nlattr* attribute, void* program) {
  if (mnl_attr_get_type(attribute) == TCA_BPF_ID && mnl_attr_validate(attribute, MNL_TYPE_U32) >= 0)
    *static_cast<std::uint32_t*>(program) = mnl_attr_get_u32(attribute);
  return MNL_CB_OK;
}

Result<Filters> list_filters(int link, TrafficSide side) {
  auto socket = NetlinkSocket::open(NETLINK_ROUTE);
  if (!socket) return std::unexpected(socket.error());
  netlink::Request request(RTM_GETTFILTER, 0);
  auto& header = request.extra_header<tcmsg>();
  header.tcm_family = AF_UNSPEC;
  header.tcm_ifindex = link;
  header.tcm_parent = TC_H_MAKE(TC_H_CLSACT, side == TrafficSide::ingress ? TC_H_MIN_INGRESS : TC_H_MIN_EGRESS);
  Filters filters;
  const auto outcome = socket->dump(
      request.header(), "list filters", [&] { filters = {}; },
      [&](const nlmsghdr& message) {
        if (message.nlmsg_type != RTM_NEWTFILTER || mnl_nlmsg_get_payload_len(&message) < sizeof(tcmsg)) return;
        const auto& filter = *static_cast<const tcmsg*>(mnl_nlmsg_get_payload(&message));
        const netlink::Attributes<TCA_OPTIONS> attributes(message, sizeof filter);
        if (filter.tcm_handle == 0) return;  // the chain's head, without a filter
        std::uint32_t program = 0;
        if (attributes.text(TCA_KIND) == "bpf" && attributes[TCA_OPTIONS] != nullptr)
          mnl_attr_parse_nested(attributes[TCA_OPTIONS], &keep_program, &program);
        if (program == 0) {
          ++filters.others;
        } else {
          filters.programs.push_back({.link = link,
                                      .side = side,
                                      .mode = AttachMode::clsact,
                                      .program = program,
                                      .priority = filter.tcm_info >> 16,
                                      .handle = filter.tcm_handle});
        }
      });
  // EINVAL: there is no such qdisc; ENODEV: the interface has just gone.
  if (!outcome && outcome.error().code != EINVAL && outcome.error().code != ENODEV &&
      outcome.error().code != EOPNOTSUPP)
    return std::unexpected(outcome.error());
  return filters;
}

}  // namespace

bool has_tcx() {
  std::uint32_t flags = 0;
  std::uint32_t count = 0;
  return bpf_prog_query(1 /* lo */, kTcxIngress, 0, &flags, nullptr, &count) == 0;
}

std::vector<LinkInfo> links_for_programs(const std::vector<LinkInfo>& links, bool with_loopback) {
  std::vector<LinkInfo> wanted;
  std::ranges::copy_if(links, std::back_inserter(wanted), [&](const LinkInfo& link) {
    if (link.index == kLoopback) return with_loopback;
    const auto master = std::ranges::find(links, link.master, &LinkInfo::index);
    // What arrives at the port of a bridge or bond arrives once more at the bridge or bond. A VRF routes what arrives at its own.
    return link.master == 0 || master == links.end() || master->kind == "vrf";
  });
  return wanted;
}

AttachMode preferred_attach_mode() {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes the environment
  const char* wanted = std::getenv("LIMPID_EBPF_ATTACH");
  if (wanted != nullptr && std::string_view(wanted) == "clsact") return AttachMode::clsact;
  return has_tcx() ? AttachMode::tcx : AttachMode::clsact;
}

Result<std::vector<Attachment>> find_attachments(int link) {
  std::vector<Attachment> found;
  for (const TrafficSide side : {TrafficSide::ingress, TrafficSide::egress}) {
    find_by_tcx(link, side, found);
    auto filters = list_filters(link, side);
    if (!filters) return std::unexpected(filters.error());
    std::ranges::copy(filters->programs, std::back_inserter(found));
  }
  return found;
}

std::vector<Attachment> with_names(const std::vector<Attachment>& attachments,
                                   std::initializer_list<std::string_view> names) {
  std::vector<Attachment> found;
  for (const Attachment& attachment : attachments) {
    const UniqueFd program(bpf_prog_get_fd_by_id(attachment.program));
    bpf_prog_info info{};
    std::uint32_t length = sizeof info;
    if (!program.valid() || bpf_obj_get_info_by_fd(program.get(), &info, &length) != 0) continue;
    if (std::ranges::find(names, std::string_view(info.name, ::strnlen(info.name, sizeof info.name))) != names.end())
      found.push_back(attachment);
  }
  return found;
}

Status attach_program(int program_fd, int link, TrafficSide side, AttachMode mode, std::uint32_t filter_priority,
                      const Attachment* replaced, std::uint32_t behind) {
  if (mode == AttachMode::tcx && replaced == nullptr && behind != 0) {
    AttachRequest request{.link = static_cast<std::uint32_t>(link),
                          .program = static_cast<std::uint32_t>(program_fd),
                          .type = tcx_type(side),
                          .flags = kAfter | kById,
                          .replaced = 0,
                          .relative = behind,
                          .revision = 0};
    if (::syscall(__NR_bpf, BPF_PROG_ATTACH, &request, sizeof request) != 0)
      return system_error(errno, "attach a program to", name_of(link, side));
    return {};
  }
  if (mode == AttachMode::tcx) {
    LIBBPF_OPTS(bpf_prog_attach_opts, options);
    UniqueFd old;
    options.flags = kBefore;
    if (replaced != nullptr) {
      old = UniqueFd(bpf_prog_get_fd_by_id(replaced->program));
      if (!old.valid()) return system_error(errno, "replace the program at", name_of(link, side));
      options.flags = BPF_F_REPLACE;
      options.replace_prog_fd = old.get();
    }
    if (const int code = bpf_prog_attach_opts(program_fd, link, tcx_type(side), &options); code != 0)
      return system_error(-code, "attach a program to", name_of(link, side));
    return {};
  }
  const bpf_tc_hook hook = hook_of(link, side);
  LIBBPF_OPTS(bpf_tc_opts, options);
  options.prog_fd = program_fd;
  options.handle = replaced != nullptr ? replaced->handle : kFilterHandle;
  options.priority = replaced != nullptr ? replaced->priority : filter_priority;
  if (replaced != nullptr) options.flags = BPF_TC_F_REPLACE;
  if (const int code = bpf_tc_attach(&hook, &options); code != 0)
    return system_error(-code, "attach a filter to", name_of(link, side),
                        code == -EEXIST
                            ? fmt::format("somebody's filter has priority {}: give another --priority", filter_priority)
                            : "");
  return {};
}

Status detach_program(const Attachment& attachment) {
  int code = 0;
  if (attachment.mode == AttachMode::tcx) {
    const UniqueFd program(bpf_prog_get_fd_by_id(attachment.program));
    code = program.valid() ? bpf_prog_detach2(program.get(), attachment.link, tcx_type(attachment.side)) : -errno;
  } else {
    const bpf_tc_hook hook = hook_of(attachment.link, attachment.side);
    LIBBPF_OPTS(bpf_tc_opts, options);
    options.handle = attachment.handle;
    options.priority = attachment.priority;
    code = bpf_tc_detach(&hook, &options);
  }
  // Gone already, or its interface is.
  if (code == 0 || code == -ENOENT || code == -ENODEV || code == -EINVAL) return {};
  return system_error(-code, "detach the program from", name_of(attachment.link, attachment.side));
}

Result<bool> require_clsact(int link) {
  bpf_tc_hook hook = hook_of(link, TrafficSide::ingress);
  const int code = bpf_tc_hook_create(&hook);
  if (code == 0) return true;
  if (code == -EEXIST) return false;
  return system_error(-code, "add a clsact qdisc to", fmt::format("interface {}", link));
}

Status remove_empty_clsact(int link) {
  for (const TrafficSide side : {TrafficSide::ingress, TrafficSide::egress}) {
    const auto filters = list_filters(link, side);
    if (!filters) return std::unexpected(filters.error());
    if (!filters->programs.empty() || filters->others != 0) return {};
  }
  bpf_tc_hook hook = hook_of(link, TrafficSide::ingress);
  hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
  const int code = bpf_tc_hook_destroy(&hook);
  if (code == 0 || code == -ENOENT || code == -ENODEV || code == -EINVAL) return {};
  return system_error(-code, "remove the clsact qdisc of", fmt::format("interface {}", link));
}

}  // namespace limpid
