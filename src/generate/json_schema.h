// JSON Schema (draft 2020-12, and what earlier drafts write alike) as a grammar of the JSON texts that satisfy it.
//
// Carried out: true and false; type (also lists), enum, const; properties, required, additionalProperties; items,
// prefixItems, minItems, maxItems; minLength, maxLength, pattern (json_pattern.h), format (json_format.h; others are
// notes, as the specification has it); minimum, maximum and their exclusive forms; anyOf, oneOf (whose alternatives
// must exclude each other), allOf; $ref to a place in the same document, also recursive.
// Any other key that restricts a value is refused by name. The grammar may allow less than the schema: properties
// come in the order of the schema, further ones only where additionalProperties asks for them or no property is
// named, numbers have at most 16 digits before and after the point.
#pragma once

#include <string>

#include "base/json_fwd.h"
#include "generate/grammar.h"

namespace apr {

// Throws kInvalidFormat with `source` and the place in the schema.
Grammar GrammarOfJsonSchema(const Json& schema, const std::string& source);

}  // namespace apr
