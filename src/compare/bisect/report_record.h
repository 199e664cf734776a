// A report read back from its JSON (schema apr-bisect-v1).
#pragma once

#include "base/json_fwd.h"
#include "compare/bisect/report.h"

namespace apr::bisect {

// Verdict, reason, findings with their causes and hypotheses, and ids of `record` into `report`; the rest of
// `report` stays. Fields of another type than the schema's count as absent.
void RestoreRecord(const Json& record, Report& report);

}  // namespace apr::bisect
