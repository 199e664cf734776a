// Ids as typed: what is accepted, and where the error points.
#include "generate/ids.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace apr {
namespace {

TEST(Ids, CommasAndWhiteSpaceSeparate) {
  const std::vector<int32_t> wanted = {1, 20, 300};
  EXPECT_EQ(ParseIds("1,20,300"), wanted);
  EXPECT_EQ(ParseIds(" 1 , 20\n300\n"), wanted);
  EXPECT_EQ(ParseIds("1\t20\r\n300"), wanted);
  EXPECT_EQ(ParseIds(FormatIds(wanted)), wanted);
  EXPECT_EQ(ParseIds("2147483647").front(), 2147483647);
}

TEST(Ids, RefusesEverythingElse) {
  for (const char* text : {"", "  ", "1,,2", ",1", "1,", "-1", "1.5", "2147483648", "1;2", "0x10", "one", "1 2x"}) {
    EXPECT_THROW(ParseIds(text), Error) << text;
  }
}

TEST(Ids, TheErrorPointsAtTheFileAndOffset) {
  try {
    ParseIds("1, 2, x3", "ids.txt");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidFormat);
    EXPECT_EQ(error.context().file, "ids.txt");
    EXPECT_EQ(error.context().offset, 6U);
  }
}

}  // namespace
}  // namespace apr
