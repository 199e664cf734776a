// See recorded_run.h.
#include "compare/bisect/recorded_run.h"

#include <algorithm>
#include <utility>

#include "base/bytes.h"

namespace apr::bisect {
namespace {

class FromDirectory final : public RecordedRun {
 public:
  explicit FromDirectory(StageDirectory directory) : directory_(std::move(directory)) {}

  const RecordedStage* Find(const std::string& name) override {
    if (const auto it = loaded_.find(name); it != loaded_.end()) return &it->second;
    const StageEntry* entry = directory_.Find(name);
    if (entry == nullptr) return nullptr;
    const StageFile file = directory_.Read(*entry);
    RecordedStage stage;
    stage.values.assign(file.values.begin(), file.values.end());
    stage.shape = entry->shape ? *entry->shape : Shape{static_cast<int64_t>(stage.values.size())};
    return &(loaded_[name] = std::move(stage));
  }
  bool Has(const std::string& name) const override { return directory_.Find(name) != nullptr; }
  std::vector<std::string> Names() const override {
    std::vector<std::string> out;
    for (const StageEntry& entry : directory_.stages()) out.push_back(entry.name);
    return out;
  }
  void Forget(int layer) override {
    std::erase_if(loaded_, [&](const auto& item) {
      const auto name = ParseStageName(item.first);
      return name && name->layer != kWholeModel && static_cast<int64_t>(name->layer) < layer;
    });
  }

 private:
  StageDirectory directory_;
  std::map<std::string, RecordedStage> loaded_;
};

class InMemory final : public RecordedRun, public TapSink {
 public:
  bool Wants(const Stage&) const override { return true; }
  void Take(const Stage& stage, const TensorView& data) override {
    Kept& kept = kept_[stage.Path()];
    kept.shape = data.shape;
    kept.dtype = data.dtype;
    kept.bytes.assign(data.bytes.begin(), data.bytes.end());
    names_.push_back(stage.Path());
  }

  const RecordedStage* Find(const std::string& name) override {
    if (const auto it = widened_.find(name); it != widened_.end()) return &it->second;
    const auto it = kept_.find(name);
    if (it == kept_.end()) return nullptr;
    const Kept& kept = it->second;
    RecordedStage stage{kept.shape, std::vector<double>(static_cast<size_t>(kept.shape.num_elements()))};
    for (size_t i = 0; i < stage.values.size(); ++i) {
      stage.values[i] = kept.dtype == DType::kF64 ? LoadLe<double>(kept.bytes.data() + 8 * i)
                                                  : static_cast<double>(LoadLe<float>(kept.bytes.data() + 4 * i));
    }
    return &(widened_[name] = std::move(stage));
  }
  bool Has(const std::string& name) const override { return kept_.count(name) > 0; }
  std::vector<std::string> Names() const override { return names_; }
  void Forget(int layer) override {
    std::erase_if(widened_, [&](const auto& item) {
      const auto name = ParseStageName(item.first);
      return name && name->layer != kWholeModel && static_cast<int64_t>(name->layer) < layer;
    });
  }

 private:
  struct Kept {
    Shape shape;
    DType dtype = DType::kF32;
    std::vector<std::byte> bytes;
  };
  std::map<std::string, Kept> kept_;
  std::map<std::string, RecordedStage> widened_;
  std::vector<std::string> names_;
};

}  // namespace

std::unique_ptr<RecordedRun> OpenRecordedRun(StageDirectory directory) { return std::make_unique<FromDirectory>(std::move(directory)); }

std::unique_ptr<RecordedRun> RecordRun(ExecutorKind kind, std::shared_ptr<const BoundGraph> model, const std::vector<int32_t>& ids,
                                       const ExecutorOptions& options) {
  auto run = std::make_unique<InMemory>();
  const std::unique_ptr<Executor> executor = Executor::Create(kind, std::move(model), options);
  const Chunk chunk{executor->NewSequence(), ids, static_cast<int64_t>(ids.size()), 0};
  executor->Forward({&chunk, 1}, run.get());
  return run;
}

}  // namespace apr::bisect
