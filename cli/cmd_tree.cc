// apr tree: the tensors of a file as a tree of their names.
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "format/name_tree.h"

namespace apr {
namespace {

struct TreeArgs {
  std::string file;
  std::string format = "ascii";
  NameTreeOptions options;
};

int Run(const TreeArgs& args, Console& console) {
  const auto file = ModelFile::Open(args.file);
  const NameTree tree = BuildNameTree(*file, args.options.filter);
  if (tree.tensor_count == 0) {
    throw Error(ErrorCode::kValidationFailed, "no tensor's name contains '" + args.options.filter + "'", {.file = args.file});
  }
  if (console.json()) {
    console.Document(NameTreeJson(tree, args.options));
  } else if (args.format == "json") {
    console.Line(DumpJson(NameTreeJson(tree, args.options)));
  } else if (args.format == "dot") {
    console.Text(NameTreeDot(tree, args.options));
  } else if (args.format == "mermaid") {
    console.Text(NameTreeMermaid(tree, args.options));
  } else {
    console.Text(NameTreeAscii(tree, args.options));
  }
  return 0;
}

CommandRunner DefineTree(Flags& app) {
  auto args = std::make_shared<TreeArgs>();
  app.AddOption("file", args->file, "file or folder")->Required()->TypeName("FILE");
  app.AddOption("--format", args->format, "ascii, dot (Graphviz), mermaid or json")
      ->Verify(Check::OneOf({"ascii", "dot", "mermaid", "json"}))
      ->TypeName("NAME");
  app.AddOption("--filter", args->options.filter, "only names that contain this")->TypeName("TEXT");
  app.AddFlag("--sizes", args->options.sizes, "types, shapes and bytes too (json always has them)");
  app.AddOption("--depth", args->options.depth, "levels to show; 0: all")->Verify(Check::Range(0, 1000))->TypeName("N");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kTreeCommand = {
    .name = "tree",
    .group = "Looking inside",
    .summary = "The tensors of a file as a tree of their names",
    .example = "  apr tree model.gguf --depth 2 --sizes\n  apr tree model.gguf --format dot | dot -Tsvg > tree.svg",
    .define = DefineTree,
};

}  // namespace apr
