// Where a model came from and under which licence, carried from container to container.
#pragma once

#include "format/meta_value.h"
#include "format/model_file.h"

namespace apr {

// general.* of a GGUF (name, license, author, source ...): copied from a GGUF; from .apr's keys; from a
// folder's README.md front matter (the model card of the Hugging Face hub), its name from the folder.
MetaBuilder GgufProvenance(const ModelFile& file);

// The same as .apr's keys (name, license, author, source, data_source ...).
MetaBuilder AprProvenance(const ModelFile& file);

}  // namespace apr
