// What the operators of expressions do to values, as in Python within jinja2's sandbox.
#pragma once

#include "tokenizer/jinja_ast.h"
#include "tokenizer/jinja_method.h"
#include "tokenizer/jinja_runtime.h"
#include "tokenizer/jinja_value.h"

namespace apr::jinja {

Value BinaryOperation(Runtime& rt, Op op, const Value& a, const Value& b);  // + - * / // % **
Value Negate(Runtime& rt, const Value& value);
Value Plus(Runtime& rt, const Value& value);
bool CompareOperation(Runtime& rt, Op op, const Value& a, const Value& b);  // == != < <= > >= in
bool Less(Runtime& rt, const Value& a, const Value& b);
bool Contains(Runtime& rt, const Value& container, const Value& item);

// a.name: a method or attribute, else an item, else undefined. `methods` is FindMethods(name).
Value GetAttribute(Runtime& rt, const Value& object, const Value& name, const MethodRow* methods);
// The attribute alone; missing if there is none.
Value AttributeOnly(Runtime& rt, const Value& object, const Value& name, const MethodRow* methods);
// a[key]: an item, else for a string the attribute, else undefined.
Value GetItem(Runtime& rt, const Value& object, const Value& key);
// a[start:stop:step]; missing or None where left out.
Value GetSlice(Runtime& rt, const Value& object, const Value& start, const Value& stop,
               const Value& step);

// Iteration. MakeIterator throws for what cannot be iterated over; an Iterator gives itself.
bool IsIterable(const Value& value);
Value MakeIterator(Runtime& rt, const Value& value);
// Items from the last to the first; the value is a list, tuple, str, dict, range or view.
Value MakeReverseIterator(Runtime& rt, const Value& value);
bool IsReversible(const Value& value);
inline bool NextItem(Runtime& rt, const Value& iterator, Value* out) {
  rt.Step();
  return As<Iterator>(iterator).Next(rt, out);
}
Values Collect(Runtime& rt, const Value& iterable);

// The integer that an index or a count demands: an int or bool, else TypeError naming the type.
int64_t IndexValue(Runtime& rt, const Value& value);

// Joins with Markup's rule: text without the mark is escaped when the other has it.
Value ConcatStr(Runtime& rt, const Value& a, const Value& b);
// `value` escaped for HTML, as Markup.
Value EscapeValue(Runtime& rt, const Value& value);

}  // namespace apr::jinja
