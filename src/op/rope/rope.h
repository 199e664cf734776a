// Rotary position embedding (Su et al. 2021, arXiv 2104.09864, eq. 34) in two ops, so that all layers
// with the same parameters share one table of angles:
//   rope_table: per token the cosines and sines of position * inverse_frequency[i], times the
//               magnitude factor of the scaling
//   rope:       rotates pairs of elements of each head by that table
#pragma once

#include <string>
#include <vector>

#include "graph/op.h"

namespace apr {

// How inverse frequencies follow from theta; i counts pairs 0 .. rotary_dim / 2 - 1 and
// f_i = theta^(-2 i / rotary_dim).
struct RopeTableAttributes {
  int64_t rotary_dim = 0;
  double theta = 0;
  // "none"; "linear": f / factor; "dynamic": theta grows with the sequence (NTK); "yarn" (Peng et
  // al. 2023, arXiv 2309.00071); "llama3" (transformers modeling_rope_utils.py); "longrope"
  // (Ding et al. 2024, arXiv 2402.13753); "factors": f_i / factors_i (GGUF tensor rope_freqs).
  std::string scaling = "none";
  double factor = 1;
  double original_context = 0;       // positions the model was first trained for
  double low_freq_factor = 0;        // llama3
  double high_freq_factor = 0;       // llama3
  double beta_fast = 0;              // yarn
  double beta_slow = 0;              // yarn
  bool truncate = true;              // yarn: correction range rounded outward to whole pairs
  double attention_factor = 1;       // cosines and sines are multiplied by it
  std::vector<double> factors;       // "factors"; longrope: the short set
  std::vector<double> long_factors;  // longrope: used once the sequence exceeds original_context

  void Fields(FieldVisitor& v) {
    v.Int("rotary_dim", rotary_dim);
    v.Real("theta", theta);
    v.Text("scaling", scaling);
    v.Real("factor", factor);
    v.Real("original_context", original_context);
    v.Real("low_freq_factor", low_freq_factor);
    v.Real("high_freq_factor", high_freq_factor);
    v.Real("beta_fast", beta_fast);
    v.Real("beta_slow", beta_slow);
    v.Bool("truncate", truncate);
    v.Real("attention_factor", attention_factor);
    v.Reals("factors", factors);
    v.Reals("long_factors", long_factors);
  }
};

// Inverse frequency of each pair for a sequence of `total_length` tokens.
std::vector<double> InverseFrequencies(const RopeTableAttributes& attributes, int64_t total_length);
// True if the angles of earlier positions change when the sequence grows from `before` to `after`
// tokens: cached keys are then stale and the whole sequence must run again.
bool FrequenciesChange(const RopeTableAttributes& attributes, int64_t before, int64_t after);

struct RopeAttributes {
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t rotary_dim = 0;   // elements of a head that rotate
  int64_t first = 0;        // first of them within the head
  // false: element i turns with i + rotary_dim / 2 (NEOX); true: 2 i with 2 i + 1 (GPT-J).
  bool adjacent = false;
  // With adjacent pairs: the rotated elements are written as two halves (DeepSeek-V3; transformers
  // models/deepseek_v3, apply_rotary_pos_emb_interleave). Scores do not change by it, stages do.
  bool halves_out = false;
  void Fields(FieldVisitor& v) {
    v.Int("heads", heads);
    v.Int("head_dim", head_dim);
    v.Int("rotary_dim", rotary_dim);
    v.Int("first", first);
    v.Bool("adjacent", adjacent);
    v.Bool("halves_out", halves_out);
  }
};

// Input: token ids (for the positions only). Output [T, rotary_dim]: cosines, then sines.
const Op& RopeTableOp();
// Inputs: x [T, heads * head_dim], table [T, rotary_dim]. Output like x.
const Op& RopeOp();

}  // namespace apr
