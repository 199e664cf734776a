// Texts that explain: error codes and checks, what a tensor is for, what an architecture computes.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/architecture.h"
#include "model/inventory.h"

namespace apr {

struct Explanation {
  std::string_view code;     // "E001", "invalid_format", "F-DATA-QUALITY-002"
  std::string_view title;
  std::string_view meaning;
  std::string_view remedy;
  int exit_code = 0;         // with which a command ends because of it
};
std::span<const Explanation> AllExplanations();
// Case does not matter; an exit code ("4") finds the error of that number. nullptr: no such code.
const Explanation* FindExplanation(std::string_view code);

// A slot of the model in words.
std::string_view SlotMeaning(Slot slot);

// Which rules of which architectures name a tensor.
struct TensorMeaning {
  Slot slot = Slot::kTokenEmbedding;
  std::vector<Slot> slots;                     // all parts of a fused tensor
  int layer = -1, expert = -1;
  Container naming = Container::kSafetensors;  // whose spelling it is: safetensors stands for Hugging Face names
  std::string other_name;                      // the same slot in the other naming, by the first architecture; may be empty
  std::vector<std::string> architectures;
};
// One entry per meaning; empty when no architecture has such a name. `only`: of this one alone.
std::vector<TensorMeaning> ExplainTensor(const std::string& name, const Architecture* only = nullptr);

// What distinguishes an architecture's computation, one sentence per trait: ("attention", "...").
std::vector<std::pair<std::string, std::string>> KernelClass(const Architecture& architecture);

}  // namespace apr
