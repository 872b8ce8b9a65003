// read_dns_answer: whatever a server sends, a name is sound and addresses are few; and what was asked is read back from the answer.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "sniff/dns_message.h"
#include "tests/fuzz/property.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto message = std::as_bytes(std::span(data, size));
  limpid::DnsQuestion question;
  if (limpid::read_dns_question(message, question))
    limpid::fuzz::check(question.name.kind() == limpid::HostName::Kind::domain, "a question has a name");
  limpid::DnsAnswer answer;
  if (!limpid::read_dns_answer(message, answer)) return 0;
  const auto name = answer.question.name.view();
  limpid::fuzz::check(answer.question.name.kind() == limpid::HostName::Kind::domain && !name.empty(),
                      "an answer has a name");
  limpid::fuzz::check(
      std::ranges::none_of(name, [](char c) { return c <= ' ' || c == 0x7f || (c >= 'A' && c <= 'Z'); }),
      "nothing in it acts in a log");
  limpid::fuzz::check(answer.count >= 1 && answer.count <= limpid::DnsAnswer::kMostAddresses, "few addresses");
  limpid::fuzz::check(answer.ttl_seconds <= 0x7fffffffU, "a time to live is positive");
  return 0;
}
