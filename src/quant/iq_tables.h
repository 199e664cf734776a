// Codebooks of the IQ types: byte i of a word is element i. Source: ggml/src/ggml-common.h
// (iq2xxs_grid ...), taken from the Python package gguf (gguf/quants.py) by
// tools/quant/make_iq_tables.py.
#pragma once

#include <cstdint>

namespace apr {

extern const uint64_t kIq2XxsGrid[256];
extern const uint64_t kIq2XsGrid[512];
extern const uint64_t kIq2SGrid[1024];
extern const uint32_t kIq3XxsGrid[256];
extern const uint32_t kIq3SGrid[512];
extern const uint64_t kIq1Grid[2048];  // bytes are two's complement

}  // namespace apr
