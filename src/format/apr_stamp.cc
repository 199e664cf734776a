// See apr_stamp.h.
#include "format/apr_stamp.h"

#include <algorithm>

#include "base/error.h"
#include "format/apr_header.h"

namespace apr {

void StampApr(std::shared_ptr<const ModelFile> file, const AprStampArgs& args) {
  if (file->container() != Container::kApr) {
    throw Error(ErrorCode::kInvalidFormat, "only .apr files are stamped", {.file = file->path()});
  }
  if (args.patch.empty()) throw Error(ErrorCode::kUsage, "nothing to stamp: no value was given");
  MetaBuilder metadata;
  for (const auto& [key, value] : file->metadata()) metadata.Set(key, value);
  uint16_t flags = ParseAprHeader(file->files()[0]->bytes(), file->path()).flags;
  for (const auto& [key, value] : args.patch) {
    metadata.Set(key, value);
    if (key == "tokenizer.vocabulary") flags |= kAprHasVocab;
  }
  // The bytes of the tensors in the order in which they lie.
  std::vector<const TensorInfo*> order;
  for (const TensorInfo& info : file->tensors()) order.push_back(&info);
  std::sort(order.begin(), order.end(), [](const TensorInfo* a, const TensorInfo* b) { return a->offset < b->offset; });
  std::vector<TensorToWrite> tensors;
  for (const TensorInfo* info : order) tensors.push_back(CopyOf(file, *info, info->name));
  WriteApr({.path = args.out, .tensors = std::move(tensors), .metadata = metadata.list(), .order = AprOrder::kAsGiven, .flags = flags, .overwrite = args.overwrite});
}

}  // namespace apr
