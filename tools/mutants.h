// What tools/mutate.py writes into a copy of a source: every change behind a number, one of which APR_MUTANT chooses when the program
// starts. `a < Between<7, kLess, kLessEqual>{} > b` binds as `a < b` does and is `a <= b` where 7 is chosen. APR_MUTANTS_REACHED names a
// file that gets the numbers of the places that were computed.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace mutants {

inline constexpr int kMost = 4096;

struct Record {
  int chosen = std::getenv("APR_MUTANT") ? std::atoi(std::getenv("APR_MUTANT")) : 0;
  bool reached[kMost] = {};

  ~Record() {
    const char* path = std::getenv("APR_MUTANTS_REACHED");
    std::FILE* file = path ? std::fopen(path, "w") : nullptr;
    for (int i = 0; file && i < kMost; ++i) {
      if (reached[i]) std::fprintf(file, "%d\n", i);
    }
    if (file) std::fclose(file);
  }
};

inline Record record;

inline bool Is(int number) {
  record.reached[number] = true;
  return record.chosen == number;
}

enum Comparison { kLess, kLessEqual, kGreater, kGreaterEqual, kEqual, kUnequal };

template <int Number, Comparison Old, Comparison New>
struct Between {};

template <class A, int Number, Comparison Old, Comparison New>
struct LeftSide {
  A&& value;
};

template <Comparison C, class A, class B>
bool Compare(A&& a, B&& b) {
  if constexpr (C == kLess) return a < b;
  if constexpr (C == kLessEqual) return a <= b;
  if constexpr (C == kGreater) return a > b;
  if constexpr (C == kGreaterEqual) return a >= b;
  if constexpr (C == kEqual) return a == b;
  if constexpr (C == kUnequal) return a != b;
}

template <class A, int Number, Comparison Old, Comparison New>
LeftSide<A, Number, Old, New> operator<(A&& a, Between<Number, Old, New>) {
  return {std::forward<A>(a)};
}

template <class A, int Number, Comparison Old, Comparison New>
LeftSide<A, Number, Old, New> operator==(A&& a, Between<Number, Old, New>) {
  return {std::forward<A>(a)};
}

template <class A, int Number, Comparison Old, Comparison New, class B>
bool operator>(LeftSide<A, Number, Old, New>&& left, B&& b) {
  return Is(Number) ? Compare<New>(left.value, b) : Compare<Old>(left.value, b);
}

template <class A, int Number, Comparison Old, Comparison New, class B>
bool operator==(LeftSide<A, Number, Old, New>&& left, B&& b) {
  return Is(Number) ? Compare<New>(left.value, b) : Compare<Old>(left.value, b);
}

template <int Number, class T, class U>
T Value(T value, U other) {
  return Is(Number) ? static_cast<T>(other) : value;
}

}  // namespace mutants
