#!/usr/bin/env python3
"""Writes src/quant/iq_tables.cc from the codebooks in the `gguf` Python package (gguf/quants.py).

Usage: make_iq_tables.py > src/quant/iq_tables.cc        (needs: pip install gguf numpy)

An entry of a codebook is a vector of 4 or 8 small integers; it is written as one little-endian word
whose byte i is element i (two's complement where values are negative).
"""
import numpy as np
from gguf import quants

# name in C++, class in gguf.quants, comment
GRIDS = [
    ("kIq2XxsGrid", "IQ2_XXS", "IQ2_XXS: 256 vectors of 8 magnitudes out of {8, 25, 43}."),
    ("kIq2XsGrid", "IQ2_XS", "IQ2_XS: 512 vectors of 8 magnitudes out of {8, 25, 43}."),
    ("kIq2SGrid", "IQ2_S", "IQ2_S: 1024 vectors of 8 magnitudes out of {8, 25, 43}."),
    ("kIq3XxsGrid", "IQ3_XXS", "IQ3_XXS: 256 vectors of 4 magnitudes out of {4, 12, ..., 52, 62}."),
    ("kIq3SGrid", "IQ3_S", "IQ3_S: 512 vectors of 4 magnitudes out of {1, 3, ..., 15}."),
    ("kIq1Grid", "IQ1_S", "IQ1_S and IQ1_M: 2048 vectors of 8 values out of {-1, 0, 1}."),
]


def words(cls):
    cls.init_grid()
    grid = cls.grid.reshape(cls.grid_shape).astype(np.int8).view(np.uint8)
    width = grid.shape[1]
    return width, [int.from_bytes(row.tobytes(), "little") for row in grid]


def main():
    print("// Codebooks of the IQ types. Written by tools/quant/make_iq_tables.py: do not edit.")
    print('#include "quant/iq_tables.h"')
    print()
    print("namespace apr {")
    for name, cls, comment in GRIDS:
        width, values = words(getattr(quants, cls))
        per_line = 4 if width == 8 else 8
        print()
        print(f"// {comment}")
        print(f"const uint{8 * width}_t {name}[{len(values)}] = {{")
        for i in range(0, len(values), per_line):
            print("    " + ", ".join(f"0x{v:0{2 * width}x}" for v in values[i:i + per_line]) + ",")
        print("};")
    print()
    print("}  // namespace apr")


if __name__ == "__main__":
    main()
