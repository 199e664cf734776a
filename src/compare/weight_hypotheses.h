// Inside of weight_search.h: what its parts share.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "compare/weight_search.h"

namespace apr::search {

// A change of A that would explain B.
struct Candidate {
  std::string cause, detail, group;
  std::string evidence, fix;
  Json a, b;
  WeightValues values;            // A, changed
  std::optional<DType> b_dtype;   // the type whose error B is supposed to carry instead of its own
  bool must_cost = false;         // ... and has to, though elements may be as far off as that type allows
  int rank = 1;                   // among accepted ones the lowest wins
  int64_t index = -1;
  std::optional<size_t> source_pair;
};

// The disagreeing pair and what is known of it.
struct Subject {
  const WeightPairs& pairs;
  size_t pair;
  const StorageJudgement* judged;   // null where the shapes differ
  ThreadPool& pool;

  const WeightPair& it() const { return pairs.pairs[pair]; }
  int64_t rows() const { return it().a.view.shape.ndim() <= 1 ? it().a.view.shape.num_elements() : it().a.rows(); }
  int64_t cols() const { return it().a.view.shape.ndim() <= 1 ? 1 : it().a.cols(); }
  bool is_vector() const { return it().a.view.shape.ndim() <= 1; }
};

// Collects trials; the best accepted one becomes the explanation.
class Trials {
 public:
  explicit Trials(const Subject& subject);
  // Tests the candidate on some rows, and on all if those agree.
  bool Try(Candidate candidate);
  // Takes one that its maker has tested.
  void Accept(Candidate candidate, double error_after);
  void Reject(std::string cause, std::string detail, double error_after);
  bool accepted() const { return best_.has_value(); }
  bool accepted_only(const char* cause) const { return best_ && best_->cause == cause; }
  int best_rank() const { return best_ ? best_->rank : 1000; }
  WeightExplanation Finish();

 private:
  double SampleError(const Candidate& candidate) const;

  const Subject& subject_;
  WeightValues b_;
  std::optional<Candidate> best_;
  double best_error_ = 0;
  std::vector<WeightTrial> trials_;
};

std::shared_ptr<std::vector<float>> Load(const WeightRef& weight);
// Values with the storage type (and its caveats) of `like`, which they were made from.
WeightValues Changed(std::shared_ptr<const std::vector<float>> values, int64_t rows, int64_t cols, const WeightRef& like);

// Another tensor of A with B's content.
void TryOtherTensors(const Subject& subject, Trials& trials);
// Rows (or columns) of A in another order, or of the tensors beside it.
void TryRowOrders(const Subject& subject, Trials& trials);
void TryColumnOrders(const Subject& subject, Trials& trials);
// Scales of the whole, of rows, columns and tiles.
void TryScales(const Subject& subject, Trials& trials);
// A coarser type than B declares.
void TryCoarserTypes(const Subject& subject, Trials& trials);
// Some places damaged, the rest sound.
void TryDamage(const Subject& subject, Trials& trials);

// "q", "ffn_gate": for groups; the file's name where there is no slot.
std::string GroupOf(const WeightPair& pair);
bool IsNormSlot(const WeightPair& pair);

}  // namespace apr::search
