// apr: the table of commands, in the order in which `apr --help` lists them.
#include "cli/command.h"
#include "cli/commands.h"
#include "cli/writing_commands.h"

namespace {

const apr::Command* const kCommands[] = {
    &apr::kRunCommand,
    &apr::kChatCommand,
    &apr::kLogitsCommand,
    &apr::kPplCommand,
    &apr::kKldCommand,
    &apr::kBenchCommand,
    &apr::kTokenizeCommand,
    &apr::kDetokenizeCommand,
    &apr::kInspectCommand,
    &apr::kTensorsCommand,
    &apr::kValidateCommand,
    &apr::kLintCommand,
    &apr::kTreeCommand,
    &apr::kHexCommand,
    &apr::kDebugCommand,
    &apr::kFlowCommand,
    &apr::kExplainCommand,
    &apr::kTraceCommand,
    &apr::kGraphCommand,
    &apr::kArchitecturesCommand,
    &apr::kDevicesCommand,
    &apr::kBisectCommand,
    &apr::kDiffCommand,
    &apr::kParityCommand,
    &apr::kSweepCommand,
    &apr::kCaptureCommand,
    &apr::kCompareHfCommand,
    &apr::kQuantReportCommand,
    &apr::kExportCommand,
    &apr::kPullCommand,
    &apr::kListCommand,
    &apr::kRmCommand,
    &apr::kConvertCommand,
    &apr::kImportCommand,
    &apr::kQuantizeCommand,
    &apr::kMergeCommand,
    &apr::kStampCommand,
    &apr::kShardCommand,
    &apr::kUnshardCommand,
    &apr::kTemplateCommand,
};

}  // namespace

int main(int argc, char** argv) { return apr::RunProgram(argc, argv, kCommands); }
