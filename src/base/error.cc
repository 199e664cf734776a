// See error.h.
#include "base/error.h"

#include <fmt/format.h>

#include <utility>

#include "base/check.h"

namespace apr {
namespace {

struct CodeRow {
  ErrorCode code;
  int exit_code;
  const char* name;
};

constexpr CodeRow kCodes[] = {
    {ErrorCode::kInternal, 1, "internal"},
    {ErrorCode::kUsage, 2, "usage"},
    {ErrorCode::kNotFound, 3, "not_found"},
    {ErrorCode::kInvalidFormat, 4, "invalid_format"},
    {ErrorCode::kValidationFailed, 5, "validation_failed"},
    {ErrorCode::kModelLoad, 6, "model_load_failed"},
    {ErrorCode::kIo, 7, "io"},
    {ErrorCode::kInference, 8, "inference_failed"},
    {ErrorCode::kNotBuilt, 9, "not_built"},
    {ErrorCode::kNetwork, 10, "network"},
    {ErrorCode::kHttpNotFound, 11, "http_not_found"},
    {ErrorCode::kInconclusive, 12, "inconclusive"},
    {ErrorCode::kCancelled, 130, "cancelled"},
};

const CodeRow& RowOf(ErrorCode code) {
  for (const CodeRow& row : kCodes) {
    if (row.code == code) return row;
  }
  return kCodes[0];
}

std::string Describe(const std::string& message, const ErrorContext& context) {
  std::string out;
  if (!context.file.empty()) out += context.file + ": ";
  out += message;
  if (context.tensor.empty() && !context.offset) return out;
  out += " (";
  if (!context.tensor.empty()) out += fmt::format("'{}'", context.tensor);
  if (!context.tensor.empty() && context.offset) out += ", ";
  if (context.offset) out += fmt::format("offset {}", *context.offset);
  return out + ")";
}

}  // namespace

int ExitCode(ErrorCode code) { return RowOf(code).exit_code; }
const char* ErrorCodeName(ErrorCode code) { return RowOf(code).name; }

Error::Error(ErrorCode code, std::string message, ErrorContext context)
    : code_(code),
      message_(std::move(message)),
      context_(std::move(context)),
      what_(Describe(message_, context_)) {}

Error Error::With(const ErrorContext& more) const {
  ErrorContext merged = context_;
  if (merged.file.empty()) merged.file = more.file;
  if (merged.tensor.empty()) merged.tensor = more.tensor;
  if (!merged.offset) merged.offset = more.offset;
  return Error(code_, message_, merged);
}

[[noreturn]] void CheckFailed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "apr: internal error: CHECK(%s) failed at %s:%d\n", condition, file, line);
  std::abort();
}

}  // namespace apr
