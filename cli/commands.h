// The commands of the program, one per cmd_<name>.cc.
#pragma once

#include "cli/command.h"

namespace apr {

extern const Command kArchitecturesCommand;
extern const Command kBenchCommand;
extern const Command kBisectCommand;
extern const Command kCaptureCommand;
extern const Command kChatCommand;
extern const Command kCompareHfCommand;
extern const Command kDebugCommand;
extern const Command kDetokenizeCommand;
extern const Command kDevicesCommand;
extern const Command kDiffCommand;
extern const Command kExplainCommand;
extern const Command kExportCommand;
extern const Command kFlowCommand;
extern const Command kGraphCommand;
extern const Command kHexCommand;
extern const Command kInspectCommand;
extern const Command kKldCommand;
extern const Command kLintCommand;
extern const Command kListCommand;
extern const Command kLogitsCommand;
extern const Command kParityCommand;
extern const Command kPplCommand;
extern const Command kPullCommand;
extern const Command kQuantReportCommand;
extern const Command kRmCommand;
extern const Command kRunCommand;
extern const Command kSweepCommand;
extern const Command kTemplateCommand;
extern const Command kTensorsCommand;
extern const Command kTokenizeCommand;
extern const Command kTraceCommand;
extern const Command kTreeCommand;
extern const Command kValidateCommand;

}  // namespace apr
