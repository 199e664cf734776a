// Reads configuration values by one name each from whatever carries them: config.json, GGUF
// key/values or .apr metadata; remembers what was read and where it stood.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "format/model_file.h"
#include "model/config.h"

namespace apr {

// One parameter's spellings. Alternatives are separated by '|', the first is canonical; a dot in
// `hf` steps into an object ("rope_parameters.rope_theta"). `gguf` keys are relative to the
// architecture ("attention.head_count") unless they begin with '/'. Empty: not carried there.
struct ConfigKey {
  std::string_view hf;
  std::string_view gguf = {};
  std::string_view apr = {};
};

class ConfigReader {
 public:
  // `out` receives the sources; it must outlive the reader. `class_defaults`: JSON object of what
  // config.json stands for where it leaves a key out (class_defaults.h); other containers state all.
  ConfigReader(const ModelFile& file, ModelConfig& out, std::string_view class_defaults = "{}");

  bool is_gguf() const { return file_.container() == Container::kGguf; }
  bool is_apr() const { return file_.container() == Container::kApr; }
  const ModelFile& file() const { return file_; }

  // nullopt where the file says nothing (or null). A value of the wrong kind throws kInvalidFormat
  // naming the key. Negative or absurd sizes are the caller's to refuse: see Size().
  std::optional<double> Real(const ConfigKey& key);
  std::optional<int64_t> Int(const ConfigKey& key);
  std::optional<bool> Bool(const ConfigKey& key);
  std::optional<std::string> Text(const ConfigKey& key);
  std::optional<std::vector<double>> Reals(const ConfigKey& key);
  std::optional<std::vector<std::string>> Texts(const ConfigKey& key);
  bool Has(const ConfigKey& key) const;
  bool IsList(const ConfigKey& key);

  // A count that must be there and lie in [1, limit]; throws kModelLoad / kInvalidFormat otherwise.
  int64_t RequiredSize(const ConfigKey& key, int64_t limit);
  double RequiredReal(const ConfigKey& key);

  // Where the last value read came from ("config.json: head_dim").
  const std::string& last_origin() const { return origin_; }

  // Records a resolved field with its origin.
  void Note(std::string field, std::string value, std::string origin);
  void Note(const char* field, int64_t value) { Note(field, std::to_string(value), origin_); }
  void Note(const char* field, double value);
  void NoteRule(const char* field, std::string value, std::string rule);

  // Marks a key (and everything below it) as read although no value is used.
  void Ignore(std::string_view hf_key) { read_.insert(std::string(hf_key)); }
  // The same for a GGUF key, relative to the architecture.
  void IgnoreGguf(std::string_view key) { read_.insert(prefix_ + std::string(key)); }

  // Keys of the file that nothing read, without those that cannot touch the computation.
  std::vector<std::string> UnreadKeys() const;

 private:
  static const Json* Descend(const Json* at, std::string_view path);
  const Json* FindJson(std::string_view path) const;
  const Json* FindNested(const ConfigKey& key);
  const Json* FindHf(const ConfigKey& key);
  const Json* FindDefault(const ConfigKey& key);
  const MetaValue* FindMeta(const ConfigKey& key);
  [[noreturn]] void WrongKind(const char* wanted) const;

  const ModelFile& file_;
  ModelConfig& out_;
  Json defaults_;
  std::string prefix_;   // "llama." in a GGUF
  std::string origin_;
  std::string key_;      // last key found
  std::set<std::string> read_;
  std::map<std::string, std::shared_ptr<const Json>> nested_;  // .apr: parsed values of top-level keys
};

}  // namespace apr
