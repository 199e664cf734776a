// apr list and apr rm: the models in the local caches.
#include <fmt/format.h>

#include <memory>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/console.h"
#include "cli/file_json.h"
#include "cli/flags.h"
#include "format/hub_cache.h"

namespace apr {
namespace {

int RunList(Console& console) {
  const std::vector<CachedModel> models = ListCachedModels();
  uint64_t total = 0;
  Json list = Json::array();
  TextTable table("<<>><<");
  table.Row({"model", "cache", "files", "size", "revision", "path"});
  for (const CachedModel& model : models) {
    total += model.bytes;
    list.push_back(model.ToJson());
    table.Row({model.repo, model.cache, std::to_string(model.files), HumanBytes(model.bytes), model.complete ? model.revision : "incomplete", model.path});
  }
  if (console.json()) console.Document({{"models", std::move(list)}, {"count", models.size()}, {"total_size_bytes", total}});
  if (models.empty()) console.Line("no models; apr pull ORG/REPO fetches one");
  else console.Text(table.ToString());
  return 0;
}

int RunRemove(const std::string& repo, Console& console) {
  const CachedModel removed = RemoveCachedModel(repo);
  if (console.json()) console.Document({{"removed", removed.ToJson()}});
  console.Line(fmt::format("{}: {} files, {} removed", removed.path, removed.files, HumanBytes(removed.bytes)));
  return 0;
}

CommandRunner DefineList(Flags&) {
  return [](Console& console) { return RunList(console); };
}

CommandRunner DefineRemove(Flags& app) {
  auto repo = std::make_shared<std::string>();
  app.AddOption("repo", *repo, "as apr list shows it")->Required()->TypeName("ORG/REPO");
  return [repo](Console& console) { return RunRemove(*repo, console); };
}

}  // namespace

const Command kListCommand = {
    .name = "list",
    .group = "Changing and moving models",
    .summary = "The models in the local caches (also: apr ls)",
    .example = "  apr list\n  apr list --json",
    .define = DefineList,
    .alias = "ls",
};

const Command kRmCommand = {
    .name = "rm",
    .group = "Changing and moving models",
    .summary = "Removes a fetched model from the local cache",
    .example = "  apr rm HuggingFaceTB/SmolLM2-135M-Instruct",
    .define = DefineRemove,
};

}  // namespace apr
