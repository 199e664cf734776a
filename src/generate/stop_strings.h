// Texts that end an answer, wherever token borders fall.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace apr {

class StopStrings {
 public:
  // Empty ones are ignored.
  explicit StopStrings(std::vector<std::string> stops);

  // What of the text so far is certain to stand before any of them. What could still be the beginning of one is
  // held back. Once one was complete, nothing more comes: the text ends before the one that begins first.
  std::string Push(std::string_view more);
  // The end without one: what was held back.
  std::string Finish();
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace apr
