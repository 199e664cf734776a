// Unicode scripts by PCRE2's tables, for the UnicodeScripts pre-tokenizer (huggingface/tokenizers,
// pre_tokenizers/unicode_scripts/pre_tokenizer.rs, which counts kana as Han).
#include <array>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "tokenizer/regex.h"
#include "tokenizer/unicode.h"

namespace apr::unicode {
namespace {

constexpr const char* kScripts[] = {"Common",
                                    "Inherited",
                                    "Latin",
                                    "Han",
                                    "Cyrillic",
                                    "Greek",
                                    "Arabic",
                                    "Hebrew",
                                    "Devanagari",
                                    "Hangul",
                                    "Thai",
                                    "Bengali",
                                    "Tamil",
                                    "Telugu",
                                    "Georgian",
                                    "Armenian",
                                    "Ethiopic",
                                    "Khmer",
                                    "Lao",
                                    "Myanmar",
                                    "Sinhala",
                                    "Tibetan",
                                    "Malayalam",
                                    "Kannada",
                                    "Gujarati",
                                    "Gurmukhi",
                                    "Oriya",
                                    "Mongolian",
                                    "Syriac",
                                    "Thaana",
                                    "Cherokee",
                                    "Canadian_Aboriginal",
                                    "Ogham",
                                    "Runic",
                                    "Tagalog",
                                    "Hanunoo",
                                    "Buhid",
                                    "Tagbanwa",
                                    "Limbu",
                                    "Tai_Le",
                                    "Linear_B",
                                    "Ugaritic",
                                    "Shavian",
                                    "Osmanya",
                                    "Cypriot",
                                    "Braille",
                                    "Buginese",
                                    "Coptic",
                                    "New_Tai_Lue",
                                    "Glagolitic",
                                    "Tifinagh",
                                    "Syloti_Nagri",
                                    "Old_Persian",
                                    "Kharoshthi",
                                    "Balinese",
                                    "Cuneiform",
                                    "Phoenician",
                                    "Phags_Pa",
                                    "Nko",
                                    "Sundanese",
                                    "Lepcha",
                                    "Ol_Chiki",
                                    "Vai",
                                    "Saurashtra",
                                    "Kayah_Li",
                                    "Rejang",
                                    "Lycian",
                                    "Carian",
                                    "Lydian",
                                    "Cham",
                                    "Tai_Tham",
                                    "Tai_Viet",
                                    "Avestan",
                                    "Egyptian_Hieroglyphs",
                                    "Samaritan",
                                    "Lisu",
                                    "Bamum",
                                    "Javanese",
                                    "Meetei_Mayek",
                                    "Imperial_Aramaic",
                                    "Old_South_Arabian",
                                    "Inscriptional_Parthian",
                                    "Inscriptional_Pahlavi",
                                    "Old_Turkic",
                                    "Kaithi",
                                    "Batak",
                                    "Brahmi",
                                    "Mandaic",
                                    "Chakma",
                                    "Meroitic_Cursive",
                                    "Meroitic_Hieroglyphs",
                                    "Miao",
                                    "Sharada",
                                    "Sora_Sompeng",
                                    "Takri",
                                    "Bassa_Vah",
                                    "Caucasian_Albanian",
                                    "Duployan",
                                    "Elbasan",
                                    "Grantha",
                                    "Khojki",
                                    "Khudawadi",
                                    "Linear_A",
                                    "Mahajani",
                                    "Manichaean",
                                    "Mende_Kikakui",
                                    "Modi",
                                    "Mro",
                                    "Nabataean",
                                    "Old_North_Arabian",
                                    "Old_Permic",
                                    "Pahawh_Hmong",
                                    "Palmyrene",
                                    "Pau_Cin_Hau",
                                    "Psalter_Pahlavi",
                                    "Siddham",
                                    "Tirhuta",
                                    "Warang_Citi",
                                    "Ahom",
                                    "Anatolian_Hieroglyphs",
                                    "Hatran",
                                    "Multani",
                                    "Old_Hungarian",
                                    "SignWriting",
                                    "Adlam",
                                    "Bhaiksuki",
                                    "Marchen",
                                    "Newa",
                                    "Osage",
                                    "Tangut",
                                    "Bopomofo",
                                    "Deseret",
                                    "Gothic",
                                    "Old_Italic",
                                    "Yi"};

class Scripts {
 public:
  int Of(char32_t cp) {
    const std::lock_guard lock(mutex_);
    const auto [it, inserted] = known_.emplace(cp, -1);
    if (inserted) it->second = Ask(cp);
    return it->second;
  }

 private:
  int Ask(char32_t cp) {
    // The pre-tokenizer's own rules.
    if (cp == 0x30FC || (cp >= 0x3040 && cp <= 0x30FF && cp != 0x30FB && cp != 0x30A0)) cp = 0x4E00;
    std::string text;
    AppendUtf8(cp, text);
    for (size_t i = 0; i < std::size(kScripts); ++i) {
      if (!regexes_[i])
        regexes_[i] = std::make_unique<Regex>("\\p{" + std::string(kScripts[i]) + "}");
      bool found = false;
      regexes_[i]->ForEachMatch(text, [&](size_t, size_t) { found = true; });
      if (found) return static_cast<int>(i) + 1;
    }
    return 0;
  }

  std::mutex mutex_;
  std::array<std::unique_ptr<Regex>, std::size(kScripts)> regexes_;
  std::unordered_map<char32_t, int> known_;
};

}  // namespace

int ScriptOf(char32_t cp) {
  static Scripts scripts;
  return scripts.Of(cp);
}

}  // namespace apr::unicode
