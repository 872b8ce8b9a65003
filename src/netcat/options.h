// What one netcat is to do, as values: filled in by the command line, read by everything in this room.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "limpid/address.h"
#include "limpid/port_set.h"
#include "net/endpoint.h"

namespace limpid {

/// How long a conversation goes on.
struct ConversationLimits {
  /// Tell the peer when the input ends (TCP: shutdown(2) of our direction).
  bool finish_after_input = false;
  /// After this much silence in both directions it is over.
  std::optional<std::chrono::milliseconds> idle;
  /// After either side has ended, the other one has this long. Empty: as long as it wants.
  std::optional<std::chrono::milliseconds> linger;
};

struct NetcatOptions {
  Transport transport = Transport::tcp;
  std::optional<Family> family;         ///< only this one; empty: both
  std::optional<SocketAddress> source;  ///< the local address, its port 0; foreign ones are made possible
  bool transparent = false;             ///< IP_TRANSPARENT for a listener even where its address does not ask for it
  bool keep_listening = false;
  bool numeric = false;  ///< never ask a name server
  std::string host;      ///< of callers
  PortSet ports;         ///< of callers; more than one only for a scan
  Port local_port;       ///< of callers' own; of listeners. 0: the kernel chooses
  ConversationLimits limits;
  std::optional<std::chrono::milliseconds> connect_timeout;
  /// Whom the conversation is with, instead of standard input and output: an argument vector. Empty: nobody.
  std::vector<std::string> program;
  /// Told what happens, a line each without a newline. Must be callable.
  std::function<void(std::string_view)> narrate;
  /// Becomes readable when everything shall end, and stays so. Borrowed; -1: never.
  int stop_fd = -1;
};

/// How a netcat came to its end, when nothing went wrong.
enum class Ending : std::uint8_t { finished, stopped };

}  // namespace limpid
