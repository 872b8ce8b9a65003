// The header block of an HTTP/2 connection's first request (RFC 7541), as far as it tells the request's name. For http2.cc.
#pragma once

#include <cstddef>
#include <span>

#include "sniff/sniffed.h"

namespace limpid {

/// A request's two ways of naming its host; a name that is not there is none.
struct RequestNames {
  HostName authority;  ///< :authority
  HostName host;       ///< the field that HTTP/2 inherits from HTTP/1
};

/// The whole block. Malformed: a decoder refuses it, or a server does because of its names (RFC 9113 section 8.2 and 8.3). Too long: it
/// has more than kMostFields fields.
[[nodiscard]] Doubt decode_header_block(std::span<const std::byte> block, RequestNames& names) noexcept;

}  // namespace limpid
