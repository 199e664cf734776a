// The commands that write models, one per cmd_<name>.cc (convert with import, shard with unshard).
#pragma once

#include "cli/command.h"

namespace apr {

extern const Command kConvertCommand;
extern const Command kImportCommand;
extern const Command kMergeCommand;
extern const Command kQuantizeCommand;
extern const Command kShardCommand;
extern const Command kStampCommand;
extern const Command kUnshardCommand;

}  // namespace apr
