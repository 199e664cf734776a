// See json.h.
#include "base/json.h"

#include <fmt/format.h>

#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"

namespace apr {
namespace {

// Runs over the events of a parse before the document is built, so that a hostile depth or a
// duplicate key is refused without building anything.
class Guard final : public nlohmann::json_sax<Json> {
 public:
  explicit Guard(const JsonLimits& limits) : limits_(limits) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t value, const string_t& text) override {
    if (!std::isfinite(value)) problem_ = "number out of range: " + text;
    return problem_.empty();
  }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override {
    keys_.emplace_back();
    counts_.push_back(0);
    return Enter();
  }
  bool key(string_t& name) override {
    if (++counts_.back() > limits_.max_keys) {
      problem_ = fmt::format("an object has more than {} keys", limits_.max_keys);
    }
    if (limits_.refuse_duplicate_keys && !keys_.back().insert(name).second) {
      problem_ = "duplicate key '" + name + "'";
    }
    return problem_.empty();
  }
  bool end_object() override {
    keys_.pop_back();
    counts_.pop_back();
    --depth_;
    return true;
  }
  bool start_array(size_t) override { return Enter(); }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception& e) override {
    problem_ = e.what();
    // Drop nlohmann's "[json.exception.parse_error.101] " tag; the rest says what it met.
    if (const size_t end = problem_.find("] "); end != std::string::npos) problem_.erase(0, end + 2);
    // It quotes what it read, which may be any bytes.
    if (!IsValidUtf8(problem_)) {
      for (char& c : problem_) c = static_cast<unsigned char>(c) < 0x80 ? c : '?';
    }
    position_ = position;
    return false;
  }

  const std::string& problem() const { return problem_; }
  size_t position() const { return position_; }

 private:
  bool Enter() {
    if (++depth_ > limits_.max_depth) {
      problem_ = fmt::format("nested deeper than {} levels", limits_.max_depth);
    }
    return problem_.empty();
  }

  JsonLimits limits_;
  size_t depth_ = 0;
  std::vector<std::set<std::string>> keys_;
  std::vector<size_t> counts_;
  std::string problem_;
  size_t position_ = 0;
};

}  // namespace

Json ParseJson(std::string_view text, const std::string& file, const JsonLimits& limits) {
  Guard guard(limits);
  const bool ok = Json::sax_parse(text.begin(), text.end(), &guard);
  if (!ok || !guard.problem().empty()) {
    throw Error(ErrorCode::kInvalidFormat, "invalid JSON: " + guard.problem(),
                {.file = file, .offset = guard.position()});
  }
  return Json::parse(text.begin(), text.end());
}

Json JsonNumber(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return value;
}

std::string DumpJson(const Json& value, int indent) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace apr
