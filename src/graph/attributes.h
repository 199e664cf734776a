// Typed attributes of graph nodes with one description of their fields, from which printing, the cache
// key, equality and editing by name are derived. Nothing about an attribute struct is typed twice.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace apr {

// What a field may be. Enumerations are stored as their spelled name.
class FieldVisitor {
 public:
  virtual ~FieldVisitor() = default;
  virtual void Int(const char* name, int64_t& value) = 0;
  virtual void Real(const char* name, double& value) = 0;
  virtual void Bool(const char* name, bool& value) = 0;
  virtual void Text(const char* name, std::string& value) = 0;
  virtual void Reals(const char* name, std::vector<double>& value) = 0;
};

class Attributes {
 public:
  virtual ~Attributes() = default;
  // Calls the visitor once per field, in declaration order.
  virtual void Visit(FieldVisitor& visitor) = 0;
  virtual std::unique_ptr<Attributes> Clone() const = 0;

  // "eps=1e-05 offset=0": every field, reals in shortest exact form.
  std::string ToString() const;
  // Equal strings if and only if every field is bitwise equal: the key for anything that bakes the
  // attributes in.
  std::string Key() const { return ToString(); }

  // Editing by name, for hypothesis trials. Throws Error(kUsage) for an unknown name or other kind.
  void SetReal(std::string_view name, double value);
  void SetInt(std::string_view name, int64_t value);
  void SetBool(std::string_view name, bool value);
  void SetText(std::string_view name, std::string value);
};

// Makes an Attributes of a plain struct that has
//   void Fields(FieldVisitor& v) { v.Real("eps", eps); ... }
template <typename Struct>
class AttributesOf final : public Attributes {
 public:
  explicit AttributesOf(Struct fields) : value(std::move(fields)) {}
  void Visit(FieldVisitor& visitor) override { value.Fields(visitor); }
  std::unique_ptr<Attributes> Clone() const override { return std::make_unique<AttributesOf>(value); }
  Struct value;
};

}  // namespace apr
