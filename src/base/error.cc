// Builds errors and puts them into one line. Used by every room; never prints.
#include "limpid/error.h"

#include <cerrno>
#include <system_error>

namespace limpid {
namespace {

std::unexpected<Error> make_error(ErrorKind kind, int code, std::string_view operation, std::string_view object,
                                  std::string_view cause, std::string_view remedy) {
  return std::unexpected(Error{.kind = kind,
                               .code = code,
                               .operation = std::string(operation),
                               .object = std::string(object),
                               .cause = std::string(cause),
                               .remedy = std::string(remedy)});
}

}  // namespace

std::string Error::message() const {
  std::string text = operation;
  if (!object.empty()) {
    if (!text.empty()) text += ' ';
    text += object;
  }
  if (!text.empty()) text += ": ";
  text += cause;
  if (!remedy.empty()) text += " (" + remedy + ")";
  return text;
}

std::unexpected<Error> system_error(int code, std::string_view operation, std::string_view object,
                                    std::string_view remedy) {
  const bool forbidden = code == EPERM || code == EACCES;
  return make_error(forbidden ? ErrorKind::unsupported : ErrorKind::failure, code, operation, object,
                    std::generic_category().message(code), remedy);
}

std::unexpected<Error> failure(std::string_view operation, std::string_view object, std::string_view cause,
                               std::string_view remedy) {
  return make_error(ErrorKind::failure, 0, operation, object, cause, remedy);
}

std::unexpected<Error> usage_error(std::string_view operation, std::string_view object, std::string_view cause,
                                   std::string_view remedy) {
  return make_error(ErrorKind::usage, 0, operation, object, cause, remedy);
}

std::unexpected<Error> unsupported(std::string_view operation, std::string_view object, std::string_view cause,
                                   std::string_view remedy) {
  return make_error(ErrorKind::unsupported, 0, operation, object, cause, remedy);
}

}  // namespace limpid
