// Stop strings whatever way the text is cut into pieces.
#include "generate/stop_strings.h"

#include <gtest/gtest.h>

namespace apr {
namespace {

// The text that comes out when `text` goes in in pieces of `size`.
std::string Through(const std::string& text, size_t size, const std::vector<std::string>& stops, bool* stopped = nullptr) {
  StopStrings filter(stops);
  std::string out;
  for (size_t at = 0; at < text.size(); at += size) out += filter.Push(text.substr(at, size));
  out += filter.Finish();
  if (stopped != nullptr) *stopped = filter.stopped();
  return out;
}

TEST(StopStrings, EndTheTextWhereverBordersFall) {
  for (const size_t size : {1U, 2U, 3U, 5U, 100U}) {
    bool stopped = false;
    EXPECT_EQ(Through("one two END three", size, {"END"}, &stopped), "one two ");
    EXPECT_TRUE(stopped);
    EXPECT_EQ(Through("one two EN", size, {"END"}, &stopped), "one two EN");
    EXPECT_FALSE(stopped);
    EXPECT_EQ(Through("aababac", size, {"abac"}), "aab");
    EXPECT_EQ(Through("nothing", size, {}), "nothing");
    EXPECT_EQ(Through("nothing", size, {""}), "nothing");
    EXPECT_EQ(Through("x\n\ny", size, {"###", "\n\n"}), "x");
  }
}

TEST(StopStrings, HoldBackOnlyWhatMayBecomeOne) {
  StopStrings filter({"</s>"});
  EXPECT_EQ(filter.Push("a <"), "a ");
  EXPECT_EQ(filter.Push("/b"), "</b");
  EXPECT_EQ(filter.Push("</s"), "");
  EXPECT_EQ(filter.Push("> never"), "");
  EXPECT_TRUE(filter.stopped());
  EXPECT_EQ(filter.Push("more"), "");
  EXPECT_EQ(filter.Finish(), "");
}

}  // namespace
}  // namespace apr
