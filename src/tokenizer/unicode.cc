// See unicode.h.
#include "tokenizer/unicode.h"

#include <utf8proc.h>

#include <vector>

namespace apr::unicode {
namespace {

// Circled and squared letters are Alphabetic by Other_Alphabetic though their category is So.
bool IsAlphabeticSymbol(char32_t cp) {
  return (cp >= 0x24B6 && cp <= 0x24E9) || (cp >= 0x1F130 && cp <= 0x1F149) ||
         (cp >= 0x1F150 && cp <= 0x1F169) || (cp >= 0x1F170 && cp <= 0x1F189);
}

bool IsWhiteSpace(char32_t cp) {
  return (cp >= 0x09 && cp <= 0x0D) || cp == 0x20 || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
         (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F ||
         cp == 0x205F || cp == 0x3000;
}

uint16_t CategoryFlags(utf8proc_category_t category) {
  switch (category) {
    case UTF8PROC_CATEGORY_LU:
      return kLu | kWord;
    case UTF8PROC_CATEGORY_LL:
      return kLl | kWord;
    case UTF8PROC_CATEGORY_LT:
      return kLt | kWord;
    case UTF8PROC_CATEGORY_LM:
      return kLm | kWord;
    case UTF8PROC_CATEGORY_LO:
      return kLo | kWord;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return kMark | kWord;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
      return kNumber | kWord;
    case UTF8PROC_CATEGORY_NO:
      return kNumber;
    case UTF8PROC_CATEGORY_PC:
      return kPunctuation | kWord;
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return kPunctuation;
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
      return kSymbol;
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
      return kOther;
    default:
      return 0;
  }
}

const utf8proc_property_t* PropertyOf(char32_t cp) { return utf8proc_get_property(static_cast<utf8proc_int32_t>(cp)); }

uint16_t FlagsOf(const utf8proc_property_t& property) {
  const uint16_t flags = CategoryFlags(static_cast<utf8proc_category_t>(property.category));
  return property.combining_class != 0 ? flags | kNfcCheck : flags;
}

// What the properties do not say.
uint16_t OwnFlags(char32_t cp) {
  if (cp > 0x3000 && (cp < 0x1F130 || cp > 0x1F189)) return 0;
  uint16_t flags = 0;
  if (IsWhiteSpace(cp)) flags |= kSpace;
  if (IsAlphabeticSymbol(cp) || cp == 0x200C || cp == 0x200D) flags |= kWord;
  if (cp == '\r' || cp == '\n') flags |= kNewline;
  return flags;
}

// Marks what NFC may change: characters that do not survive decomposition and recomposition, and
// every character that stands second in a canonical decomposition (it may compose with what comes
// before). Hangul vowels and final consonants are such by rule.
void MarkNfc(const std::vector<char32_t>& decomposing, std::vector<uint16_t>& table) {
  for (char32_t cp = 0x1161; cp <= 0x1175; ++cp) table[cp] |= kNfcCheck;
  for (char32_t cp = 0x11A7; cp <= 0x11C2; ++cp) table[cp] |= kNfcCheck;
  for (const char32_t cp : decomposing) {
    utf8proc_int32_t buffer[8];
    int last_class = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(cp), buffer, 8,
                                               UTF8PROC_DECOMPOSE, &last_class);
    if (count < 1 || count > 8) continue;
    for (int i = 1; i < count; ++i) {
      if (static_cast<char32_t>(buffer[i]) < kTableSize) table[buffer[i]] |= kNfcCheck;
    }
    const auto composed = utf8proc_normalize_utf32(
        buffer, count, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
    if (composed != 1 || static_cast<char32_t>(buffer[0]) != cp) table[cp] |= kNfcCheck;
  }
}

std::vector<uint16_t> BuildTable() {
  std::vector<uint16_t> table(kTableSize, 0);
  std::vector<char32_t> decomposing;
  const utf8proc_property_t* last = nullptr;  // neighbours share an entry mostly
  uint16_t flags = 0;
  bool decomposes = false;
  for (char32_t cp = 0; cp < kTableSize; ++cp) {
    // Blocks of one class, where the lookup would only cost time; Hangul decomposes by rule.
    if ((cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0xAC00 && cp <= 0xD7A3) ||
        (cp >= 0x20000 && cp <= 0x2A6DF)) {
      table[cp] = kLo | kWord;
      continue;
    }
    if (const utf8proc_property_t* property = PropertyOf(cp); property != last) {
      last = property;
      flags = FlagsOf(*property);
      decomposes = property->decomp_seqindex != UINT16_MAX && property->decomp_type == 0;
    }
    table[cp] = flags | OwnFlags(cp);
    if (decomposes) decomposing.push_back(cp);
  }
  MarkNfc(decomposing, table);
  return table;
}

}  // namespace

const uint16_t* CharTable() {
  static const std::vector<uint16_t> table = BuildTable();
  return table.data();
}

uint16_t SlowCharFlags(char32_t cp) { return cp > 0x10FFFF ? 0 : FlagsOf(*PropertyOf(cp)) | OwnFlags(cp); }

void AppendUtf8(char32_t cp, std::string& out) {
  if (cp < 0x80) {
    out += static_cast<char>(cp);
  } else if (cp < 0x800) {
    out += static_cast<char>(0xC0 | cp >> 6);
    out += static_cast<char>(0x80 | (cp & 0x3F));
  } else if (cp < 0x10000) {
    out += static_cast<char>(0xE0 | cp >> 12);
    out += static_cast<char>(0x80 | (cp >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (cp & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | cp >> 18);
    out += static_cast<char>(0x80 | (cp >> 12 & 0x3F));
    out += static_cast<char>(0x80 | (cp >> 6 & 0x3F));
    out += static_cast<char>(0x80 | (cp & 0x3F));
  }
}

Probe ProbeUtf8(std::string_view bytes) {
  const auto b = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const unsigned char lead = b(0);
  if (lead < 0x80) return {1, true, false};
  if (lead < 0xC2 || lead > 0xF4) return {1, false, false};
  const uint32_t need = SequenceLength(lead);
  // The second byte's range is narrower after some leads (no overlong forms, no surrogates).
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (uint32_t i = 1; i < need; ++i) {
    if (i >= bytes.size()) return {i, false, true};
    const bool fits = i == 1 ? b(i) >= low && b(i) <= high : (b(i) & 0xC0) == 0x80;
    if (!fits) return {i, false, false};
  }
  return {need, true, false};
}

std::string ReplaceIllFormed(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  size_t i = 0;
  while (i < bytes.size()) {
    if (static_cast<unsigned char>(bytes[i]) < 0x80) {
      out += bytes[i++];
      continue;
    }
    const Probe probe = ProbeUtf8(bytes.substr(i));
    if (probe.valid) {
      out.append(bytes, i, probe.length);
    } else {
      AppendUtf8(kReplacement, out);
    }
    i += probe.length;
  }
  return out;
}

void AppendLower(char32_t cp, std::string& out) {
  if (cp < 0x80) {
    out += static_cast<char>(cp >= 'A' && cp <= 'Z' ? cp + 32 : cp);
  } else if (cp == 0x130) {
    out += "i\xCC\x87";
  } else {
    AppendUtf8(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(cp))), out);
  }
}

bool IsAsciiPunctuation(char32_t cp) {
  return (cp >= '!' && cp <= '/') || (cp >= ':' && cp <= '@') || (cp >= '[' && cp <= '`') ||
         (cp >= '{' && cp <= '~');
}

}  // namespace apr::unicode
