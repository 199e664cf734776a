// The tensors of a file as a tree: names split at dots.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_fwd.h"
#include "format/model_file.h"

namespace apr {

struct NameTree {
  std::string name;               // one part of the path; of the root the file's
  std::string path;               // "" for the root
  const TensorInfo* tensor = nullptr;  // a leaf
  uint64_t total_size = 0;        // bytes of all tensors below
  uint64_t tensor_count = 0;
  std::vector<NameTree> children; // in the file's order
};

struct NameTreeOptions {
  std::string filter;    // only tensors whose name contains it
  int depth = 0;         // levels below the root that are shown; 0: all
  bool sizes = false;    // text forms: bytes and shapes too
};

// Names of more than 32 parts keep the rest as one part: a hostile name makes no deep tree.
NameTree BuildNameTree(const ModelFile& file, const std::string& filter);

Json NameTreeJson(const NameTree& tree, const NameTreeOptions& options);
// Drawn with lines, one node a line.
std::string NameTreeAscii(const NameTree& tree, const NameTreeOptions& options);
std::string NameTreeDot(const NameTree& tree, const NameTreeOptions& options);
std::string NameTreeMermaid(const NameTree& tree, const NameTreeOptions& options);

}  // namespace apr
