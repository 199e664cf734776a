// See name_tree.h.
#include "format/name_tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <unordered_map>

#include "base/json.h"
#include "format/container_checks.h"

namespace apr {
namespace {

constexpr int kMaxNameParts = 32;

std::vector<std::string_view> Parts(std::string_view name) {
  std::vector<std::string_view> out;
  while (static_cast<int>(out.size()) + 1 < kMaxNameParts) {
    const size_t dot = name.find('.');
    if (dot == name.npos) break;
    out.push_back(name.substr(0, dot));
    name.remove_prefix(dot + 1);
  }
  out.push_back(name);
  return out;
}

// Builds the tree by indices: children lists grow while it is built.
class Builder {
 public:
  void Add(const TensorInfo& info) {
    const std::vector<std::string_view> parts = Parts(info.name);
    size_t at = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      // A leaf and a group of one name ("a" and "a.b") are two nodes.
      const bool leaf = i + 1 == parts.size();
      nodes_[at].size += info.bytes;
      ++nodes_[at].count;
      at = Child(at, parts[i], leaf ? &info : nullptr);
    }
    nodes_[at].size += info.bytes;
    nodes_[at].count = 1;
  }

  NameTree Take(size_t index, const std::string& path) const {
    const Node& node = nodes_[index];
    NameTree out{std::string(node.name), path, node.tensor, node.size, node.count, {}};
    out.children.reserve(node.children.size());
    for (const size_t child : node.children) {
      const std::string name(nodes_[child].name);
      out.children.push_back(Take(child, path.empty() ? name : path + "." + name));
    }
    return out;
  }

 private:
  struct Node {
    std::string_view name;
    const TensorInfo* tensor = nullptr;
    uint64_t size = 0, count = 0;
    std::vector<size_t> children;
    std::unordered_map<std::string_view, size_t> groups;
  };

  size_t Child(size_t parent, std::string_view name, const TensorInfo* tensor) {
    if (tensor == nullptr) {
      const auto found = nodes_[parent].groups.find(name);
      if (found != nodes_[parent].groups.end()) return found->second;
    }
    const size_t index = nodes_.size();
    nodes_.push_back({name, tensor, 0, 0, {}, {}});
    nodes_[parent].children.push_back(index);
    if (tensor == nullptr) nodes_[parent].groups.emplace(name, index);
    return index;
  }

  std::vector<Node> nodes_{1};
};

bool Shown(int level, const NameTreeOptions& options) { return options.depth == 0 || level < options.depth; }

std::string Label(const NameTree& node, const NameTreeOptions& options) {
  std::string out = Printable(node.name);
  if (node.tensor != nullptr) {
    if (options.sizes) out += fmt::format(" {} {} {} bytes", NameOf(node.tensor->dtype), node.tensor->shape.ToString(), node.total_size);
  } else if (options.sizes) {
    out += fmt::format(" ({} tensors, {} bytes)", node.tensor_count, node.total_size);
  }
  return out;
}

void Draw(const NameTree& node, const std::string& indent, int level, const NameTreeOptions& options, std::string& out) {
  if (!Shown(level, options)) return;
  for (size_t i = 0; i < node.children.size(); ++i) {
    const NameTree& child = node.children[i];
    const bool last = i + 1 == node.children.size();
    out += indent + (last ? "└── " : "├── ") + Label(child, options) + "\n";
    Draw(child, indent + (last ? "    " : "│   "), level + 1, options, out);
  }
}

// A label inside double quotes.
std::string Quoted(std::string text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return fmt::format("\"{}\"", out);
}

// Calls `use(parent, node, child)` for every node below the root, numbered in drawing order; 0 is the root.
void Walk(const NameTree& node, int id, int level, const NameTreeOptions& options, int& next,
          const std::function<void(int, int, const NameTree&)>& use) {
  if (!Shown(level, options)) return;
  for (const NameTree& child : node.children) {
    const int number = next++;
    use(id, number, child);
    Walk(child, number, level + 1, options, next, use);
  }
}

Json ToJson(const NameTree& node, int level, const NameTreeOptions& options) {
  if (node.tensor != nullptr) {
    const auto dims = node.tensor->shape.dims();
    return {{"name", node.name},
            {"path", node.path},
            {"shape", std::vector<int64_t>(dims.begin(), dims.end())},
            {"dtype", NameOf(node.tensor->dtype)},
            {"size_bytes", node.total_size},
            {"type", "tensor"}};
  }
  Json out = {{"name", node.name}, {"path", node.path}, {"total_size", node.total_size}, {"tensor_count", node.tensor_count}, {"type", "group"}};
  Json children = Json::array();
  if (Shown(level, options)) {
    for (const NameTree& child : node.children) children.push_back(ToJson(child, level + 1, options));
  }
  out["children"] = std::move(children);
  return out;
}

}  // namespace

NameTree BuildNameTree(const ModelFile& file, const std::string& filter) {
  Builder builder;
  for (const TensorInfo& info : file.tensors()) {
    if (info.name.find(filter) != info.name.npos) builder.Add(info);
  }
  NameTree tree = builder.Take(0, "");
  tree.name = file.path();
  return tree;
}

Json NameTreeJson(const NameTree& tree, const NameTreeOptions& options) { return ToJson(tree, 0, options); }

std::string NameTreeAscii(const NameTree& tree, const NameTreeOptions& options) {
  std::string out = Label(tree, options) + "\n";
  Draw(tree, "", 0, options, out);
  return out;
}

std::string NameTreeDot(const NameTree& tree, const NameTreeOptions& options) {
  std::string out = "digraph model {\n  rankdir=LR;\n  node [shape=box];\n  n0 [label=" + Quoted(Label(tree, options)) + "];\n";
  int next = 1;
  Walk(tree, 0, 0, options, next, [&](int parent, int id, const NameTree& node) {
    const char* shape = node.tensor != nullptr ? ", shape=ellipse" : "";
    out += fmt::format("  n{} [label={}{}];\n  n{} -> n{};\n", id, Quoted(Label(node, options)), shape, parent, id);
  });
  return out + "}\n";
}

std::string NameTreeMermaid(const NameTree& tree, const NameTreeOptions& options) {
  const auto label = [&](const NameTree& node) {
    std::string text = Label(node, options);
    for (size_t at = 0; (at = text.find('"', at)) != text.npos; at += 6) text.replace(at, 1, "#quot;");
    return text;
  };
  std::string out = "graph LR\n  n0[\"" + label(tree) + "\"]\n";
  int next = 1;
  Walk(tree, 0, 0, options, next, [&](int parent, int id, const NameTree& node) {
    const char* open = node.tensor != nullptr ? "([\"" : "[\"";
    const char* close = node.tensor != nullptr ? "\"])" : "\"]";
    out += fmt::format("  n{} --> n{}{}{}{}\n", parent, id, open, label(node), close);
  });
  return out;
}

}  // namespace apr
