// See pre_names.h. Names: ggml-org/llama.cpp, src/llama-vocab.cpp. Patterns: the tokenizer.json
// that each family publishes.
#include "tokenizer/pre_names.h"

namespace apr {
namespace {

constexpr char kGpt2[] =
    R"re('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)re";
constexpr char kLlama3[] =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[)re"
    R"re(\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr char kQwen2[] =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n])re"
    R"re(*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr char kQwen35[] =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\)re"
    R"re(p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr char kAnyDigits[] =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n)re"
    R"re(]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr char kGpt4o[] =
    R"re([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|')re"
    R"re(t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm)re"
    R"re(}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s)re"
    R"re(*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr char kTekken[] =
    R"re([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\)re"
    R"re(p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p)re"
    R"re({L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr char kJais2[] =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[)re"
    R"re(\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)re"
    R"re()|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1})re";
constexpr char kBailing[] =
    R"re('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*)re"
    R"re([\r\n]|\s+(?!\S)|\s+)re";
constexpr char kSeedCoder[] =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n])re"
    R"re(+|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr char kUfakzeka[] =
    R"re([^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr char kExaoneMoe[] =
    R"re((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{)re"
    R"re(N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)re";
constexpr char kKimiK2[] =
    R"re(\p{Han}+|[^\r\n\p{L}\p{N}]?(?:(?!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])*(?:(?!\p{H)re"
    R"re(an})[\p{Ll}\p{Lm}\p{Lo}\p{M}])+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?(?:(?)re"
    R"re(!\p{Han})[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])+(?:(?!\p{Han})[\p{Ll}\p{Lm}\p{Lo}\p{M}])*()re"
    R"re(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\)re"
    R"re(S)|\s+)re";
constexpr char kBloom[] = R"re( ?[^(\s|.,!?…。，、।۔،)]+)re";
constexpr char kFalconPunctuation[] = R"re([\p{P}\$\+<=>\^~\|`]+)re";
constexpr char kDefaultPunctuation[] = R"re([\p{P}\$\+<=>\^~\|]+)re";
constexpr char kThreeDigits[] = R"re([0-9][0-9][0-9])re";
constexpr char kAnyNumber[] = R"re(\p{N})re";
constexpr char kNumbers[] = R"re(\p{N}+)re";
constexpr char kNumbers3[] = R"re(\p{N}{1,3})re";
constexpr char kLineBreak[] = R"re([\r\n])re";
constexpr char kDeepseekLetters[] =
    R"re(\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-)re"
    R"re(ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮ)re"
    R"re(ⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+)re";
constexpr char kDeepseekPunctuation[] = R"re(\s?[!-/:-~！-／：-～‘-‟　-。]+)re";
constexpr char kTrailingSpace[] = R"re(\s+\z)re";
constexpr char kDeepseekCjk[] = R"re([一-龥ࠀ-一가-퟿]+)re";
constexpr char kCoderLetters[] = R"re(\s?\p{L}+)re";
constexpr char kCoderPunctuation[] = R"re(\s?\p{P}+)re";
constexpr char kDeepseek3Cjk[] = R"re([一-龥぀-ゟ゠-ヿ]+)re";
constexpr char kDeepseek3[] =
    R"re([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)re"
    R"re(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)re";
constexpr char kYoutuScripts[] =
    R"re([가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+)re";
constexpr char kYoutu[] =
    R"re([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|')re"
    R"re(t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm)re"
    R"re(}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\)re"
    R"re(n]+|\s+(?!\S)|\s+)re";
constexpr char kLines[] = R"re([^\n]+|[\n]+)re";
constexpr char kThousands[] = R"re((?=(\d{3})+(?!\d)))re";
constexpr char kDigitGroups[] = R"re(\d{1,3}(?=(?:\d{3})*\b))re";
constexpr char kSentinel[] = R"re(<sentinel:[0-9]+>)re";
constexpr char kImage[] = R"re((IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z)re";
constexpr char kChameleonSpace[] = R"re(([\t\n]|    |  ))re";
constexpr char kChameleonPunctuation[] = R"re([\p{P}!-/:-@\[-`{-~])re";

constexpr PreName kNames[] = {
    {.name = "default", .patterns = {kDefaultPunctuation, kGpt2, kNumbers, kThreeDigits}},
    {.name = "llama3", .patterns = {kLlama3}, .ignore_merges = true, .add_bos = true},
    {.name = "llama-v3", .patterns = {kLlama3}, .ignore_merges = true, .add_bos = true},
    {.name = "llama-bpe", .patterns = {kLlama3}, .ignore_merges = true, .add_bos = true},
    {.name = "falcon3", .patterns = {kLlama3}, .ignore_merges = true, .add_bos = true},
    {.name = "falcon-h1", .patterns = {kLlama3}, .ignore_merges = true, .add_bos = true},
    {.name = "pixtral", .patterns = {kLlama3}, .ignore_merges = true, .add_bos = true},
    {.name = "midm-2.0", .patterns = {kLlama3}, .ignore_merges = true, .add_bos = true},
    {.name = "lfm2", .patterns = {kLlama3}, .ignore_merges = true, .add_bos = true},
    {.name = "jina-v5-nano", .patterns = {kLlama3}, .ignore_merges = true, .add_bos = true},
    {.name = "dbrx", .patterns = {kLlama3}},
    {.name = "smaug-bpe", .patterns = {kLlama3}},
    {.name = "chatglm-bpe", .patterns = {kLlama3}},
    {.name = "glm4", .patterns = {kLlama3}, .ignore_merges = true},
    {.name = "glm5", .patterns = {kLlama3}, .ignore_merges = true},
    {.name = "minicpm5", .patterns = {kNumbers3, kAnyDigits}, .ignore_merges = true},
    {.name = "deepseek-llm",
     .patterns = {kLineBreak, kDeepseekLetters, kDeepseekPunctuation, kTrailingSpace, kDeepseekCjk,
                  kNumbers}},
    {.name = "deepseek-coder",
     .patterns = {kLineBreak, kCoderLetters, kCoderPunctuation, kDeepseekCjk, kAnyNumber}},
    {.name = "deepseek-v3", .patterns = {kNumbers3, kDeepseek3Cjk, kDeepseek3}},
    {.name = "hunyuan-dense", .patterns = {kNumbers3, kDeepseek3Cjk, kDeepseek3}},
    {.name = "joyai-llm", .patterns = {kNumbers3, kDeepseek3Cjk, kDeepseek3}},
    {.name = "hy_v4", .patterns = {kNumbers3, kDeepseek3Cjk, kDeepseek3}},
    {.name = "youtu", .patterns = {kYoutuScripts, kYoutu}, .ignore_merges = true},
    {.name = "falcon", .patterns = {kFalconPunctuation, kGpt2, kThreeDigits}},
    {.name = "gpt-2", .patterns = {kGpt2}},
    {.name = "phi-2", .patterns = {kGpt2}},
    {.name = "jina-es", .patterns = {kGpt2}},
    {.name = "jina-de", .patterns = {kGpt2}},
    {.name = "gigachat", .patterns = {kGpt2}},
    {.name = "jina-v2-es", .patterns = {kGpt2}},
    {.name = "jina-v2-de", .patterns = {kGpt2}},
    {.name = "a.x-4.0", .patterns = {kGpt2}},
    {.name = "mellum", .patterns = {kGpt2}},
    {.name = "modern-bert", .patterns = {kGpt2}},
    {.name = "mpt", .patterns = {kGpt2}},
    {.name = "olmo", .patterns = {kGpt2}},
    {.name = "jais", .patterns = {kGpt2}},
    {.name = "trillion", .patterns = {kGpt2}},
    {.name = "granite-docling", .patterns = {kGpt2}},
    {.name = "exaone4", .patterns = {kGpt2}},
    {.name = "jina-v1-en", .patterns = {kGpt2}, .add_sep = true},
    {.name = "jina-v2-code", .patterns = {kGpt2}, .add_sep = true},
    {.name = "roberta-bpe", .patterns = {kGpt2}, .add_sep = true},
    {.name = "starcoder", .patterns = {kAnyNumber, kGpt2}},
    {.name = "refact", .patterns = {kAnyNumber, kGpt2}},
    {.name = "command-r", .patterns = {kAnyNumber, kGpt2}},
    {.name = "smollm", .patterns = {kAnyNumber, kGpt2}},
    {.name = "codeshell", .patterns = {kAnyNumber, kGpt2}},
    {.name = "exaone", .patterns = {kAnyNumber, kGpt2}},
    {.name = "minerva-7b", .patterns = {kAnyNumber, kGpt2}},
    {.name = "mellum2", .patterns = {kAnyNumber, kGpt2}},
    {.name = "qwen2", .patterns = {kQwen2}, .nfc = true},
    {.name = "deepseek-r1-qwen", .patterns = {kQwen2}},
    {.name = "kormo", .patterns = {kQwen2}},
    {.name = "f2llmv2", .patterns = {kQwen2}},
    {.name = "megrez", .patterns = {kQwen2}},
    {.name = "stablelm2", .patterns = {kQwen2}},
    {.name = "hunyuan", .patterns = {kQwen2}},
    {.name = "solar-open", .patterns = {kQwen2}},
    {.name = "grok-2", .patterns = {kQwen2}},
    {.name = "qwen35", .patterns = {kQwen35}, .nfc = true},
    {.name = "poro-chat", .patterns = {kBloom}},
    {.name = "bloom", .patterns = {kBloom}},
    {.name = "gpt3-finnish", .patterns = {kBloom}},
    {.name = "viking", .patterns = {kBloom, kAnyNumber}},
    {.name = "tekken", .patterns = {kTekken}, .ignore_merges = true, .add_bos = true},
    {.name = "jais-2", .patterns = {kJais2}},
    {.name = "exaone-moe", .patterns = {kExaoneMoe}},
    {.name = "chameleon",
     .patterns = {kSentinel, kImage, kChameleonSpace, kAnyNumber, kChameleonPunctuation, kGpt2},
     .add_bos = true},
    {.name = "gpt-4o", .patterns = {kGpt4o}},
    {.name = "llama4", .patterns = {kGpt4o}},
    {.name = "kanana2", .patterns = {kGpt4o}},
    {.name = "talkie", .patterns = {kGpt4o}},
    {.name = "minimax-m2", .patterns = {kGpt4o}},
    {.name = "granite-embed-multi-97m", .patterns = {kGpt4o}, .ignore_merges = true},
    {.name = "tiny_aya", .patterns = {kDigitGroups, kGpt4o}},
    {.name = "cohere2moe", .patterns = {kDigitGroups, kGpt4o}},
    {.name = "superbpe", .patterns = {kNumbers, kThousands}},
    {.name = "bailingmoe", .patterns = {kBailing}},
    {.name = "bailingmoe2", .patterns = {kBailing}},
    {.name = "llada-moe", .patterns = {kBailing}},
    {.name = "seed-coder", .patterns = {kSeedCoder}},
    {.name = "kimi-k2", .patterns = {kKimiK2}},
    {.name = "ufakzeka", .patterns = {kUfakzeka}},
    {.name = "laguna", .patterns = {kLines, kQwen2}},
};

}  // namespace

const PreName* FindPreName(std::string_view name) {
  for (const PreName& row : kNames) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

const PreName* FindPreNameOf(const std::vector<std::string>& patterns, bool ignore_merges, bool nfc) {
  const auto same = [&](const PreName& row) {
    if (row.ignore_merges != ignore_merges || row.nfc != nfc) return false;
    for (size_t i = 0; i < row.patterns.size(); ++i) {
      const bool more = row.patterns[i] != nullptr;
      if (more != (i < patterns.size()) || (more && patterns[i] != row.patterns[i])) return false;
    }
    return true;
  };
  for (const PreName& row : kNames) {
    if (same(row)) return &row;
  }
  return nullptr;
}

}  // namespace apr
