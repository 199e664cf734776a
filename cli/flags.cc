// See flags.h.
#include "cli/flags.h"

#include <CLI/CLI.hpp>

namespace apr {

Check Check::Range(int64_t low, int64_t high) {
  Check out;
  out.kind_ = Kind::kInt;
  out.ints_ = {low, high};
  return out;
}

Check Check::Range(double low, double high) {
  Check out;
  out.kind_ = Kind::kReal;
  out.reals_ = {low, high};
  return out;
}

Check Check::Positive() { return {}; }

Check Check::NonNegative() {
  Check out;
  out.kind_ = Kind::kNonNegative;
  return out;
}

Check Check::OneOf(std::vector<std::string> names) {
  Check out;
  out.kind_ = Kind::kOneOf;
  out.names_ = std::move(names);
  return out;
}

FlagOption* FlagOption::Required() {
  option_->required();
  return this;
}

FlagOption* FlagOption::TypeName(const std::string& name) {
  option_->type_name(name);
  return this;
}

FlagOption* FlagOption::Verify(const Check& check) {
  switch (check.kind_) {
    case Check::Kind::kInt: option_->check(CLI::Range(check.ints_.first, check.ints_.second)); break;
    case Check::Kind::kReal: option_->check(CLI::Range(check.reals_.first, check.reals_.second)); break;
    case Check::Kind::kPositive: option_->check(CLI::PositiveNumber); break;
    case Check::Kind::kNonNegative: option_->check(CLI::NonNegativeNumber); break;
    case Check::Kind::kOneOf: option_->check(CLI::IsMember(check.names_)); break;
  }
  return this;
}

FlagOption* FlagOption::Needs(const FlagOption* other) {
  option_->needs(other->option_);
  return this;
}

FlagOption* FlagOption::Excludes(const FlagOption* other) {
  option_->excludes(other->option_);
  return this;
}

FlagOption* FlagOption::Group(const std::string& name) {
  option_->group(name);
  return this;
}

FlagOption* FlagOption::Expected(int count) {
  option_->expected(count);
  return this;
}

FlagOption* FlagOption::ValueOptional(const std::string& without) {
  option_->expected(0, 1)->default_str(without);
  return this;
}

FlagOption* FlagOption::ShowDefault() {
  option_->capture_default_str();
  return this;
}

FlagOption* FlagOption::TakeAll() {
  option_->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  return this;
}

bool FlagOption::given() const { return option_->count() > 0; }

FlagOption* Flags::Keep(CLI::Option* option) { return &options_.emplace_back(option); }

FlagOption* Flags::AddOption(const std::string& name, std::string& value, const std::string& help) {
  return Keep(app_.add_option(name, value, help));
}
FlagOption* Flags::AddOption(const std::string& name, int& value, const std::string& help) {
  return Keep(app_.add_option(name, value, help));
}
FlagOption* Flags::AddOption(const std::string& name, int64_t& value, const std::string& help) {
  return Keep(app_.add_option(name, value, help));
}
FlagOption* Flags::AddOption(const std::string& name, uint64_t& value, const std::string& help) {
  return Keep(app_.add_option(name, value, help));
}
FlagOption* Flags::AddOption(const std::string& name, uint32_t& value, const std::string& help) {
  return Keep(app_.add_option(name, value, help));
}
FlagOption* Flags::AddOption(const std::string& name, float& value, const std::string& help) {
  return Keep(app_.add_option(name, value, help));
}
FlagOption* Flags::AddOption(const std::string& name, double& value, const std::string& help) {
  return Keep(app_.add_option(name, value, help));
}
FlagOption* Flags::AddOption(const std::string& name, std::vector<std::string>& value, const std::string& help) {
  return Keep(app_.add_option(name, value, help));
}
FlagOption* Flags::AddOption(const std::string& name, std::vector<double>& value, const std::string& help) {
  return Keep(app_.add_option(name, value, help));
}
FlagOption* Flags::AddOption(const std::string& name, std::optional<std::string>& value, const std::string& help) {
  return Keep(app_.add_option(name, value, help));
}
FlagOption* Flags::AddOption(const std::string& name, std::optional<int>& value, const std::string& help) {
  return Keep(app_.add_option(name, value, help));
}
FlagOption* Flags::AddOption(const std::string& name, std::optional<int64_t>& value, const std::string& help) {
  return Keep(app_.add_option(name, value, help));
}
FlagOption* Flags::AddOption(const std::string& name, std::optional<uint64_t>& value, const std::string& help) {
  return Keep(app_.add_option(name, value, help));
}
FlagOption* Flags::AddOption(const std::string& name, std::optional<double>& value, const std::string& help) {
  return Keep(app_.add_option(name, value, help));
}
FlagOption* Flags::AddFlag(const std::string& name, bool& value, const std::string& help) {
  return Keep(app_.add_flag(name, value, help));
}

}  // namespace apr
