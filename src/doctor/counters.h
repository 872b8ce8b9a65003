// Numbers that the kernel keeps about this network namespace in /proc/net, and of the machine. Reads only.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "limpid/address.h"

namespace limpid::doctor {

/// A connection that waits for its target's answer.
struct UnansweredConnection {
  SocketAddress local;
  SocketAddress target;
  unsigned repeated = 0;  ///< how often its SYN was sent again
};

/// A connection that the kernel has made and no program has accepted yet.
struct WaitingConnection {
  SocketAddress local;
  SocketAddress client;
};

/// Packets that source validation has dropped: TcpExt IPReversePathFilter, as nstat shows it.
[[nodiscard]] std::uint64_t read_reverse_path_drops();
/// in_martian_src of /proc/net/stat/rt_cache, of all processors, and of every network namespace: the kernel keeps one count
/// (rt_cache_stat in net/ipv4/route.c). It has what the other one lacks: drops because of src_valid_mark.
[[nodiscard]] std::uint64_t read_martian_sources();
/// Connections in TIME_WAIT.
[[nodiscard]] std::uint64_t read_time_wait();
[[nodiscard]] std::uint64_t read_available_memory_kib();
/// Those in SYN_SENT whose SYN has been repeated.
[[nodiscard]] std::vector<UnansweredConnection> read_unanswered();

/// Those in accept queues, ended by their clients or not.
[[nodiscard]] std::vector<WaitingConnection> read_waiting();

/// One number out of a file of "NAMES" and "VALUES" lines with a common first word, as /proc/net/netstat is. 0: not there.
[[nodiscard]] std::uint64_t find_counter(std::string_view text, std::string_view group, std::string_view name);

}  // namespace limpid::doctor
