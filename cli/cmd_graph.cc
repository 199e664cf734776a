// apr graph: the computation of a model, node by node.
#include <memory>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/flags.h"
#include "graph/op.h"
#include "model/model.h"

namespace apr {
namespace {

struct GraphArgs {
  std::string model;
  bool dot = false;
};

Json ToJson(const Graph& graph) {
  Json nodes = Json::array();
  const auto names = [&](const auto& ids, const auto& table) {
    Json out = Json::array();
    for (const int id : ids) out.push_back(table[static_cast<size_t>(id)].name);
    return out;
  };
  for (const Node& node : graph.nodes) {
    nodes.push_back({{"name", node.name},
                     {"op", node.op->name()},
                     {"layer", node.layer < 0 ? Json(nullptr) : Json(node.layer)},
                     {"attributes", node.attributes ? node.attributes->ToString() : ""},
                     {"inputs", names(node.inputs, graph.values)},
                     {"weights", names(node.weights, graph.weights)},
                     {"outputs", names(node.outputs, graph.values)}});
  }
  Json stages = Json::array();
  for (const Stage& stage : graph.stages) stages.push_back(stage.Path());
  return {{"nodes", std::move(nodes)}, {"stages", std::move(stages)}};
}

int Run(const GraphArgs& args, Console& console) {
  const auto model = Model::Load(args.model);
  if (console.json()) {
    Json out = {{"model", args.model}, {"architecture", model->config().architecture}};
    out.update(ToJson(model->graph()));
    console.Document(out);
  } else {
    console.Text(args.dot ? model->graph().ToDot() : model->graph().ToText());
  }
  return 0;
}

CommandRunner DefineGraph(Flags& app) {
  auto args = std::make_shared<GraphArgs>();
  app.AddOption("model", args->model, "file or folder")->Required()->TypeName("MODEL");
  app.AddFlag("--dot", args->dot, "as Graphviz source");
  return [args](Console& console) { return Run(*args, console); };
}

}  // namespace

const Command kGraphCommand = {
    .name = "graph",
    .group = "Looking inside",
    .summary = "The computation of a model: ops, attributes, values, weights",
    .example = "  apr graph model.gguf\n  apr graph model.gguf --dot | dot -Tsvg > graph.svg",
    .define = DefineGraph,
};

}  // namespace apr
