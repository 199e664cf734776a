// Local time as strftime_now sees it, and strftime in the C locale.
#pragma once

#include <string>
#include <string_view>

namespace apr::jinja {

struct LocalTime {
  int year = 1970;
  int month = 1;  // 1..12
  int day = 1;
  int hour = 0, minute = 0, second = 0;
  int microsecond = 0;
};

// "2025-03-04T05:06:07", with a blank for the T, fractions of a second, or the date alone. An
// offset
// ("Z", "+01:00") is dropped: the time is local. Throws Error(kUsage).
LocalTime ParseLocalTime(std::string_view text);
LocalTime CurrentLocalTime();

// datetime.strftime of a naive time; a directive that the C library does not know stays as it is.
std::string FormatTime(const LocalTime& time, std::string_view format);

}  // namespace apr::jinja
