// The settings that two models are compared in: for each what it is called as a cause and in config.json, whether two
// configurations agree in it, and how it is carried over.
#pragma once

#include <span>
#include <string>

#include "base/json.h"
#include "model/config.h"

namespace apr::bisect {

struct ConfigField {
  const char* name;   // cause name; empty: a difference in it has no name of its own
  const char* key;    // Hugging Face config key
  bool (*same)(const ModelConfig& a, const ModelConfig& b);
  Json (*value)(const ModelConfig& c);
  void (*copy)(ModelConfig& to, const ModelConfig& from);
  bool shapes = false;  // tensors have other shapes by it
};

// In the order in which they are corrected: sizes first.
std::span<const ConfigField> ConfigFields();
// The field that a configuration key belongs to; nullptr: none.
const ConfigField* FieldOfKey(const std::string& key);

}  // namespace apr::bisect
