// Which source this program was built from.
#pragma once

namespace apr {

extern const char* const kVersion;  // "0.1.0"
extern const char* const kGitSha;   // abbreviated commit; "unknown" outside a git checkout

}  // namespace apr
