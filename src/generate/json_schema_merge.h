// Schemas put together: references followed, allOf merged, anyOf and oneOf spread out.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json_fwd.h"

namespace apr {

// All throw kInvalidFormat with `source` and the place `where`.

// Every key of an object schema is one that is carried out or one that restricts nothing.
void CheckSchemaKeys(const Json& schema, const std::string& source, const std::string& where);
// The reference of a schema that is nothing else.
std::optional<std::string> OnlyReference(const Json& schema);
// What "#/$defs/name" stands for.
const Json& ResolveReference(const std::string& ref, const Json& root, const std::string& source, const std::string& where);
// The schemas of which one must hold, none with allOf, anyOf or oneOf at its top, or with $ref
// beside other keys.
std::vector<Json> FlattenSchema(const Json& schema, const Json& root, const std::string& source, const std::string& where);
// The types a schema allows; guessed from its other keys where it names none; empty: all.
std::vector<std::string> TypesOf(const Json& schema, const std::string& source, const std::string& where);

}  // namespace apr
