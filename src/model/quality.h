// The quality score of an .apr file: how much of what a published model should carry is there.
#pragma once

#include "base/json_fwd.h"
#include "format/model_file.h"

namespace apr {

struct QualityScore {
  int physics = 0;      // of 20: the checksums hold
  int structural = 0;   // of 20: architecture, layers, hidden size, vocabulary declared, 5 each
  int provenance = 0;   // of 25: license 9, data source 8, data license 8
  int hf_identity = 0;  // of 20: hf_architecture 12, hf_model_type 8
  int tokenizer = 0;    // of 15: vocabulary 10, merges or scores 5

  int score() const { return physics + structural + provenance + hf_identity + tokenizer; }
  static constexpr int kShipReady = 90;
  Json ToJson() const;  // score, ship_ready, threshold, breakdown
};

// For container() == kApr. `checksums_hold`: what ValidateApr said.
QualityScore ScoreQuality(const ModelFile& file, bool checksums_hold);

}  // namespace apr
