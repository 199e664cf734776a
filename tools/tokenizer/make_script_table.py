#!/usr/bin/env python3
"""Writes src/tokenizer/script_table.h: which script the UnicodeScripts pre-tokenizer of Hugging Face's `tokenizers`
counts each code point to, found by asking it where it cuts.

    make_script_table.py > src/tokenizer/script_table.h
"""
import tokenizers


def main():
    scripts = tokenizers.pre_tokenizers.UnicodeScripts()

    def cut(a, b):
        return len(scripts.pre_tokenize_str(a + b)) > 1

    known = []  # one character of each script

    def script_of(c):
        if not cut("a", c) and not cut("\u044f", c):
            return 0  # goes with any script
        for i, other in enumerate(known):
            if not cut(other, c):
                return i + 1
        known.append(c)
        return len(known)

    runs = []
    for cp in range(0x110000):
        if 0xD800 <= cp < 0xE000:
            continue
        c = chr(cp)
        if runs and runs[-1][1] == script_of_last and script_of_last and not cut(last, c) and cut("a", c):
            script = script_of_last  # joins its predecessor and not everything
        else:
            script = script_of(c)
        if not runs or runs[-1][1] != script:
            runs.append((cp, script))
        last, script_of_last = c, script
    print("// Scripts as huggingface/tokenizers " + tokenizers.__version__ + " tells them apart. Made by")
    print("// tools/tokenizer/make_script_table.py; do not edit.")
    print("#pragma once\n\n#include <cstdint>\n\nnamespace apr::unicode {\n")
    print("// First code point << 8 | script; a range ends where the next begins. 0: goes with any script.")
    print("inline constexpr uint32_t kScriptRanges[] = {")
    for at in range(0, len(runs), 8):
        print("    " + " ".join(f"0x{cp << 8 | script:X}," for cp, script in runs[at:at + 8]))
    print("};\n\n}  // namespace apr::unicode")


if __name__ == "__main__":
    main()
