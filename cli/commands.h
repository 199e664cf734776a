// The commands of the program, one per cmd_<name>.cc.
#pragma once

#include "cli/command.h"

namespace apr {

extern const Command kDevicesCommand;

}  // namespace apr
