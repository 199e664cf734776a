// What a command declares its flags with: CLI11 behind a small interface, so that one file of the program
// pays for compiling it.
#pragma once

#include <cstdint>
#include <deque>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace CLI {  // NOLINT(readability-identifier-naming): the library's name
class App;
class Option;
}  // namespace CLI

namespace apr {

// What a value must be; anything else is a usage error.
class Check {
 public:
  static Check Range(int64_t low, int64_t high);  // both ends allowed
  static Check Range(int low, int high) { return Range(int64_t{low}, int64_t{high}); }
  static Check Range(double low, double high);
  static Check Positive();
  static Check NonNegative();
  static Check OneOf(std::vector<std::string> names);

 private:
  friend class FlagOption;
  enum class Kind { kInt, kReal, kPositive, kNonNegative, kOneOf } kind_ = Kind::kPositive;
  std::pair<int64_t, int64_t> ints_;
  std::pair<double, double> reals_;
  std::vector<std::string> names_;
};

// A declared flag or option. Pointers to it stay valid while its Flags lives.
class FlagOption {
 public:
  explicit FlagOption(CLI::Option* option) : option_(option) {}
  FlagOption* Required();
  FlagOption* TypeName(const std::string& name);
  FlagOption* Verify(const Check& check);
  FlagOption* Needs(const FlagOption* other);
  FlagOption* Excludes(const FlagOption* other);
  FlagOption* Group(const std::string& name);      // heading in the help
  FlagOption* Expected(int count);                 // values per occurrence
  FlagOption* ValueOptional(const std::string& without);  // given without a value it has this one
  FlagOption* ShowDefault();                       // the variable's present value stands in the help
  FlagOption* TakeAll();                           // may be given several times
  bool given() const;                              // valid once the command line is parsed

 private:
  CLI::Option* option_;
};

class Flags {
 public:
  explicit Flags(CLI::App& app) : app_(app) {}
  Flags(const Flags&) = delete;
  Flags& operator=(const Flags&) = delete;

  // `name`: "-o,--out", or a bare word for a positional argument. The variable keeps its value unless given.
  FlagOption* AddOption(const std::string& name, std::string& value, const std::string& help);
  FlagOption* AddOption(const std::string& name, int& value, const std::string& help);
  FlagOption* AddOption(const std::string& name, int64_t& value, const std::string& help);
  FlagOption* AddOption(const std::string& name, uint64_t& value, const std::string& help);
  FlagOption* AddOption(const std::string& name, uint32_t& value, const std::string& help);
  FlagOption* AddOption(const std::string& name, float& value, const std::string& help);
  FlagOption* AddOption(const std::string& name, double& value, const std::string& help);
  FlagOption* AddOption(const std::string& name, std::vector<std::string>& value, const std::string& help);
  FlagOption* AddOption(const std::string& name, std::vector<double>& value, const std::string& help);
  FlagOption* AddOption(const std::string& name, std::optional<std::string>& value, const std::string& help);
  FlagOption* AddOption(const std::string& name, std::optional<int>& value, const std::string& help);
  FlagOption* AddOption(const std::string& name, std::optional<int64_t>& value, const std::string& help);
  FlagOption* AddOption(const std::string& name, std::optional<uint64_t>& value, const std::string& help);
  FlagOption* AddOption(const std::string& name, std::optional<double>& value, const std::string& help);
  FlagOption* AddFlag(const std::string& name, bool& value, const std::string& help);

 private:
  FlagOption* Keep(CLI::Option* option);

  CLI::App& app_;
  std::deque<FlagOption> options_;
};

}  // namespace apr
