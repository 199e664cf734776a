// See attributes.h.
#include "graph/attributes.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"

namespace apr {
namespace {

class Printer final : public FieldVisitor {
 public:
  void Int(const char* name, int64_t& value) override { Append(name, fmt::format("{}", value)); }
  void Real(const char* name, double& value) override { Append(name, fmt::format("{}", value)); }
  void Bool(const char* name, bool& value) override { Append(name, value ? "true" : "false"); }
  void Text(const char* name, std::string& value) override { Append(name, value); }
  void Reals(const char* name, std::vector<double>& value) override {
    std::string list;
    for (const double v : value) list += fmt::format("{}{}", list.empty() ? "" : ",", v);
    Append(name, "[" + list + "]");
  }
  std::string text;

 private:
  void Append(const char* name, std::string_view value) {
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, value);
  }
};

// Assigns the field called `name` if its kind fits.
class Setter final : public FieldVisitor {
 public:
  explicit Setter(std::string_view name) : name_(name) {}
  void Int(const char* name, int64_t& value) override { Assign(name, value, wanted_int); }
  void Real(const char* name, double& value) override { Assign(name, value, wanted_real); }
  void Bool(const char* name, bool& value) override { Assign(name, value, wanted_bool); }
  void Text(const char* name, std::string& value) override { Assign(name, value, wanted_text); }
  void Reals(const char*, std::vector<double>&) override {}

  void Apply(Attributes& attributes) {
    attributes.Visit(*this);
    if (!done_) throw Error(ErrorCode::kUsage, fmt::format("no attribute '{}' of that kind", name_));
  }

  const int64_t* wanted_int = nullptr;
  const double* wanted_real = nullptr;
  const bool* wanted_bool = nullptr;
  const std::string* wanted_text = nullptr;

 private:
  template <typename T>
  void Assign(const char* name, T& value, const T* wanted) {
    if (wanted == nullptr || name_ != name) return;
    value = *wanted;
    done_ = true;
  }
  std::string name_;
  bool done_ = false;
};

}  // namespace

std::string Attributes::ToString() const {
  Printer printer;
  // Visit hands out references so that setters can use it; the printer only reads.
  const_cast<Attributes*>(this)->Visit(printer);
  return printer.text;
}

void Attributes::SetReal(std::string_view name, double value) {
  Setter setter(name);
  setter.wanted_real = &value;
  setter.Apply(*this);
}
void Attributes::SetInt(std::string_view name, int64_t value) {
  Setter setter(name);
  setter.wanted_int = &value;
  setter.Apply(*this);
}
void Attributes::SetBool(std::string_view name, bool value) {
  Setter setter(name);
  setter.wanted_bool = &value;
  setter.Apply(*this);
}
void Attributes::SetText(std::string_view name, std::string value) {
  Setter setter(name);
  setter.wanted_text = &value;
  setter.Apply(*this);
}

}  // namespace apr
