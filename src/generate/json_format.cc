// See json_format.h.
#include "generate/json_format.h"

#include <fmt/format.h>

namespace apr {
namespace {

// RFC 4291, 2.2: eight groups, or fewer around one "::".
std::string Ipv6() {
  const auto groups = [](int most) {
    const std::string group = "[0-9a-fA-F]{1,4}";
    return most == 1 ? group : fmt::format("{}(:{}){{0,{}}}", group, group, most - 1);
  };
  std::string out = "[0-9a-fA-F]{1,4}(:[0-9a-fA-F]{1,4}){7}";
  out += "|::(" + groups(7) + ")?";
  for (int left = 1; left <= 7; ++left) {
    out += "|" + (left == 1 ? groups(1) : fmt::format("{}(:[0-9a-fA-F]{{1,4}}){{{}}}", groups(1), left - 1)) + "::";
    if (left < 7) out += "(" + groups(7 - left) + ")?";
  }
  return out;
}

}  // namespace

std::optional<JsonFormat> JsonFormatOf(std::string_view name) {
  const std::string date = "\\d{4}-((0[13578]|1[02])-(0[1-9]|[12]\\d|3[01])|(0[469]|11)-(0[1-9]|[12]\\d|30)|02-(0[1-9]|1\\d|2[0-8]))";
  const std::string time = "([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(\\.\\d{1,6})?(Z|[+-]([01]\\d|2[0-3]):[0-5]\\d)";
  // RFC 3339, appendix A.
  const std::string clock = "T(\\d{1,9}H(\\d{1,9}M(\\d{1,9}S)?)?|\\d{1,9}M(\\d{1,9}S)?|\\d{1,9}S)";
  const std::string duration =
      "P((\\d{1,9}D|\\d{1,9}M(\\d{1,9}D)?|\\d{1,9}Y(\\d{1,9}M(\\d{1,9}D)?)?)(" + clock + ")?|" + clock + "|\\d{1,9}W)";
  // At most 62 characters, so that four of them stay within the 253 of RFC 1123 and a mailbox within the 254 of RFC 5321.
  const std::string label = "[A-Za-z0-9]{1,20}(-[A-Za-z0-9]{1,20}){0,2}";
  const std::string host = label + "(\\." + label + "){0,3}";
  const std::string byte = "(25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";
  const std::string mailbox =
      "[A-Za-z0-9_+-]{1,15}(\\.[A-Za-z0-9_+-]{1,15}){0,3}@" + label + "(\\." + label + "){1,2}";
  const std::string plain = "([A-Za-z0-9._~:@!$&'()*+,;=/-]|%[0-9A-F]{2})*";
  const std::string uri = "[a-z][a-z0-9+.-]{0,15}://" + host + "(:\\d{1,5})?(/" + plain + ")?(\\?" + plain + ")?(#" + plain + ")?";
  const auto of = [](const std::string& pattern, int64_t shortest, int64_t longest) {
    return JsonFormat{"^(" + pattern + ")$", shortest, longest};
  };
  if (name == "date") return of(date, 10, 10);
  if (name == "time") return of(time, 9, 21);
  if (name == "date-time") return of(date + "T" + time, 20, 32);
  if (name == "duration") return of(duration, 3, 62);
  if (name == "uuid") return of("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", 36, 36);
  if (name == "hostname") return of(host, 1, 251);
  if (name == "ipv4") return of("(" + byte + "\\.){3}" + byte, 7, 15);
  if (name == "ipv6") return of(Ipv6(), 2, 39);
  if (name == "email") return of(mailbox, 5, 252);
  if (name == "uri") return of(uri, 5, -1);
  return std::nullopt;
}

}  // namespace apr
