// See jinja_time.h.
#include "tokenizer/jinja_time.h"

#include <fmt/format.h>

#include <chrono>
#include <ctime>
#include <optional>

#include "base/error.h"

namespace apr::jinja {
namespace {

constexpr const char* kDays[] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                 "Thursday", "Friday", "Saturday"};
constexpr const char* kMonths[] = {"January",   "February", "March",    "April",
                                   "May",       "June",     "July",     "August",
                                   "September", "October",  "November", "December"};

std::chrono::sys_days DayOf(const LocalTime& t) {
  using namespace std::chrono;
  return sys_days(year(t.year) / month(static_cast<unsigned>(t.month)) /
                  day(static_cast<unsigned>(t.day)));
}

struct Calendar {
  int weekday;      // 0 is Sunday
  int day_of_year;  // from 0
  int64_t unix_time;
};

Calendar CalendarOf(const LocalTime& t) {
  const auto days = DayOf(t);
  LocalTime first = t;
  first.month = first.day = 1;
  const auto count = days.time_since_epoch().count();
  return {static_cast<int>(std::chrono::weekday(days).c_encoding()),
          static_cast<int>((days - DayOf(first)).count()),
          static_cast<int64_t>(count) * 86400 + t.hour * 3600 + t.minute * 60 + t.second};
}

// Year and week of ISO 8601: weeks begin on Monday, the first one holds 4 January.
std::pair<int, int> IsoWeek(const LocalTime& t, const Calendar& c) {
  using namespace std::chrono;
  const int monday_based = (c.weekday + 6) % 7;
  const auto thursday = DayOf(t) + days(3 - monday_based);
  const year_month_day date(thursday);
  const auto first = sys_days(date.year() / January / 1);
  return {static_cast<int>(date.year()), static_cast<int>((thursday - first).count() / 7 + 1)};
}

// The directives that stand for several others; nullptr for the rest.
const char* Composite(char directive) {
  switch (directive) {
    case 'c':
      return "%a %b %e %H:%M:%S %Y";
    case 'D':
    case 'x':
      return "%m/%d/%y";
    case 'F':
      return "%Y-%m-%d";
    case 'r':
      return "%I:%M:%S %p";
    case 'R':
      return "%H:%M";
    case 'T':
    case 'X':
      return "%H:%M:%S";
    default:
      return nullptr;
  }
}

std::optional<std::string> DateDirective(const LocalTime& t, char directive) {
  const Calendar c = CalendarOf(t);
  const std::string day = kDays[c.weekday];
  const std::string month = kMonths[t.month - 1];
  const int from_monday = (c.weekday + 6) % 7;
  switch (directive) {
    case 'a':
      return day.substr(0, 3);
    case 'A':
      return day;
    case 'b':
    case 'h':
      return month.substr(0, 3);
    case 'B':
      return month;
    case 'C':
      return fmt::format("{:02}", t.year / 100);
    case 'd':
      return fmt::format("{:02}", t.day);
    case 'e':
      return fmt::format("{:2}", t.day);
    case 'g':
      return fmt::format("{:02}", IsoWeek(t, c).first % 100);
    case 'G':
      return fmt::format("{}", IsoWeek(t, c).first);
    case 'j':
      return fmt::format("{:03}", c.day_of_year + 1);
    case 'm':
      return fmt::format("{:02}", t.month);
    case 's':
      return fmt::format("{}", c.unix_time);
    case 'u':
      return fmt::format("{}", from_monday + 1);
    case 'U':
      return fmt::format("{:02}", (c.day_of_year + 7 - c.weekday) / 7);
    case 'V':
      return fmt::format("{:02}", IsoWeek(t, c).second);
    case 'w':
      return fmt::format("{}", c.weekday);
    case 'W':
      return fmt::format("{:02}", (c.day_of_year + 7 - from_monday) / 7);
    case 'y':
      return fmt::format("{:02}", t.year % 100);
    case 'Y':
      return fmt::format("{}", t.year);
    default:
      return std::nullopt;
  }
}

std::optional<std::string> TimeDirective(const LocalTime& t, char directive) {
  const int hour12 = t.hour % 12 == 0 ? 12 : t.hour % 12;
  switch (directive) {
    case 'f':
      return fmt::format("{:06}", t.microsecond);
    case 'H':
      return fmt::format("{:02}", t.hour);
    case 'I':
      return fmt::format("{:02}", hour12);
    case 'k':
      return fmt::format("{:2}", t.hour);
    case 'l':
      return fmt::format("{:2}", hour12);
    case 'M':
      return fmt::format("{:02}", t.minute);
    case 'n':
      return "\n";
    case 'p':
      return t.hour < 12 ? "AM" : "PM";
    case 'P':
      return t.hour < 12 ? "am" : "pm";
    case 'S':
      return fmt::format("{:02}", t.second);
    case 't':
      return "\t";
    case 'z':
    case 'Z':
      return "";  // a naive time has no zone
    case '%':
      return "%";
    default:
      return std::nullopt;
  }
}

// One directive; nullopt when the C library does not know it.
std::optional<std::string> Directive(const LocalTime& t, char directive) {
  if (const char* composite = Composite(directive)) return FormatTime(t, composite);
  if (auto date = DateDirective(t, directive)) return date;
  return TimeDirective(t, directive);
}

// glibc's flags in front of a directive: "-" no padding, "_" blanks, "0" zeros, "^" upper case.
std::string ApplyFlag(std::string text, char flag) {
  if (flag == '^') {
    for (char& c : text) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
    return text;
  }
  size_t pad = 0;
  while (pad + 1 < text.size() && (text[pad] == '0' || text[pad] == ' ')) ++pad;
  if (flag == '-') return text.substr(pad);
  for (size_t i = 0; i < pad; ++i) text[i] = flag == '_' ? ' ' : '0';
  return text;
}

}  // namespace

LocalTime ParseLocalTime(std::string_view text) {
  const auto fail = [&]() -> int {
    throw Error(ErrorCode::kUsage,
                fmt::format("'{}' is no ISO time such as 2025-03-04T05:06:07", text));
  };
  size_t at = 0;
  const auto number = [&](size_t digits) {
    int value = 0;
    for (size_t i = 0; i < digits; ++i, ++at) {
      if (at >= text.size() || text[at] < '0' || text[at] > '9') fail();
      value = value * 10 + (text[at] - '0');
    }
    return value;
  };
  const auto skip = [&](char a, char b) {
    at < text.size() && (text[at] == a || text[at] == b) ? static_cast<int>(++at) : fail();
  };
  LocalTime t;
  t.year = number(4);
  skip('-', '-');
  t.month = number(2);
  skip('-', '-');
  t.day = number(2);
  if (at < text.size()) {
    skip('T', ' ');
    t.hour = number(2);
    skip(':', ':');
    t.minute = number(2);
    if (at < text.size() && text[at] == ':') {
      ++at;
      t.second = number(2);
    }
    if (at < text.size() && text[at] == '.') {
      int scale = 1000000;
      for (++at; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
        scale /= 10;
        t.microsecond += (text[at] - '0') * scale;
      }
    }
    const std::string_view offset = text.substr(at);
    const bool zone = offset.empty() || offset == "Z" || (offset[0] == '+' || offset[0] == '-');
    if (!zone) fail();
  }
  using namespace std::chrono;
  const auto date =
      year(t.year) / month(static_cast<unsigned>(t.month)) / day(static_cast<unsigned>(t.day));
  if (!date.ok() || t.hour > 23 || t.minute > 59 || t.second > 59) fail();
  return t;
}

LocalTime CurrentLocalTime() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  std::tm parts{};
  localtime_r(&seconds, &parts);
  LocalTime t;
  t.year = parts.tm_year + 1900;
  t.month = parts.tm_mon + 1;
  t.day = parts.tm_mday;
  t.hour = parts.tm_hour;
  t.minute = parts.tm_min;
  t.second = parts.tm_sec > 59 ? 59 : parts.tm_sec;
  const auto fraction = now - std::chrono::system_clock::from_time_t(seconds);
  t.microsecond =
      static_cast<int>(std::chrono::duration_cast<std::chrono::microseconds>(fraction).count());
  return t;
}

std::string FormatTime(const LocalTime& time, std::string_view format) {
  std::string out;
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out += format[i];
      continue;
    }
    const size_t begin = i;
    char flag = '\0';
    if (i + 1 < format.size() &&
        std::string_view("-_0^").find(format[i + 1]) != std::string_view::npos) {
      flag = format[++i];
    }
    std::optional<std::string> text;
    if (i + 1 < format.size()) text = Directive(time, format[i + 1]);
    if (text) {
      out += flag == '\0' ? *text : ApplyFlag(std::move(*text), flag);
      ++i;
    } else {
      out += format.substr(begin, i - begin + 1);
    }
  }
  return out;
}

}  // namespace apr::jinja
