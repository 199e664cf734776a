// What an op is to the graph: a name, a shape rule and one function per executor. Each op is a
// stateless static object in its own folder under src/op.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "graph/graph.h"

namespace apr {

template <typename Real>
struct OpContext;  // op/context.h

// Whatever a CPU kernel prepares once per node (packed weights, tables). Owned by the executor.
class CpuState {
 public:
  virtual ~CpuState() = default;
};
struct CpuPrepareContext;  // op/context.h

class Op {
 public:
  virtual ~Op() = default;
  virtual const char* name() const = 0;

  // Kind and width of each output, given the node's attributes, weights and inputs. Throws
  // Error(kModelLoad) when they contradict each other.
  virtual std::vector<Value> Infer(const Node& node, const Graph& graph) const = 0;

  // The definition, in f64, straight from the formula.
  virtual void Reference(const OpContext<double>& context) const = 0;

  // The fast one, in f32. PrepareCpu runs once per node and precision; its result arrives in
  // context.state. Null is fine.
  virtual std::unique_ptr<CpuState> PrepareCpu(const CpuPrepareContext&) const { return nullptr; }
  virtual void Cpu(const OpContext<float>& context) const = 0;
};

}  // namespace apr
