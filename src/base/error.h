// The one exception type of the project. Library code throws it, one place (cli/main.cc) catches it
// and maps its code to an exit code. Expected absence is std::optional, never an exception; our own
// bugs are CHECK (check.h), never an exception.
#pragma once

#include <cstdint>
#include <exception>
#include <optional>
#include <string>

namespace apr {

// Exit code of the program for each, from the command reference: see ExitCode().
enum class ErrorCode {
  kInternal,          // 1: our bug, reported instead of aborting where that is possible
  kUsage,             // 2: wrong arguments
  kNotFound,          // 3: no such file, or not a file
  kInvalidFormat,     // 4: the bytes are not what the format demands
  kValidationFailed,  // 5: a check said no; an output exists and --force was not given
  kModelLoad,         // 6: a well-formed file that is no model we can build (e.g. unknown architecture)
  kIo,                // 7: the operating system refused to read or write
  kInference,         // 8: the forward pass cannot be carried out (context full, bad token id)
  kNotBuilt,          // 9: this build or machine lacks the feature asked for by name
  kNetwork,           // 10
  kHttpNotFound,      // 11
  kInconclusive,      // 12: a comparison that can say neither yes nor no
  kCancelled,         // 130: SIGINT
};

int ExitCode(ErrorCode code);
const char* ErrorCodeName(ErrorCode code);

// Where in the user's material the error lies. Every field is optional.
struct ErrorContext {
  std::string file;
  std::string tensor;               // tensor name, or metadata / config key
  std::optional<uint64_t> offset;   // byte offset in `file`
};

class Error : public std::exception {
 public:
  Error(ErrorCode code, std::string message, ErrorContext context = {});

  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }
  const ErrorContext& context() const { return context_; }

  // "file: message (tensor 'name', offset 123)".
  const char* what() const noexcept override { return what_.c_str(); }

  // The same error with the fields of `more` filled in where this one has none.
  Error With(const ErrorContext& more) const;

 private:
  ErrorCode code_;
  std::string message_;
  ErrorContext context_;
  std::string what_;
};

}  // namespace apr
