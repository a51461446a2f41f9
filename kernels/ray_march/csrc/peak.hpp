// A loop of nothing but the MLP's multiply-adds, on registers: what the core can do at most.
#pragma once
#include "tile_job.hpp"

namespace {

// Makes the compiler forget what it knows of a vector, and costs no instruction where the vector has a register.
template <class V>
inline __attribute__((always_inline)) void forget(V& v) {
#if defined(__AVX512F__)
  constexpr unsigned long kRegister = 64;
#elif defined(__AVX__)
  constexpr unsigned long kRegister = 32;
#else
  constexpr unsigned long kRegister = 16;
#endif
#if defined(__x86_64__)
  if constexpr (sizeof v <= kRegister) __asm__ volatile("" : "+x"(v));
  else __asm__ volatile("" : "+m"(v));
#elif defined(__aarch64__)
  static_assert(sizeof v <= kRegister, "a NEON register holds it");
  __asm__ volatile("" : "+w"(v));
#else
  __asm__ volatile("" : "+m"(v));
#endif
}

constexpr int kPeakSums = 12;  // independent, more than latency times issue width

// `step(sum, a)` adds `per_step` products to `sum`. Returns how many were done.
template <class V, class Step>
inline int64_t spin(int64_t rounds, V a, int per_step, const Step& step) {
  V sum[kPeakSums];
#pragma GCC unroll 12
  for (int i = 0; i < kPeakSums; i++) {
    V start = a;
    forget(start);  // or all sums would be one
    sum[i] = start;
  }
  for (int64_t r = 0; r < rounds; r++)
#pragma GCC unroll 4
    for (int turn = 0; turn < 4; turn++)
#pragma GCC unroll 12
      for (int i = 0; i < kPeakSums; i++) {
        forget(a);  // or its product would be made once for all
        sum[i] = step(sum[i], a);
      }
#pragma GCC unroll 12
  for (int i = 0; i < kPeakSums; i++) {
    V last = sum[i];  // not the sum itself: it would stay in memory
    forget(last);
  }
  return rounds * 4 * kPeakSums * per_step;
}

template <class L>
int64_t spin_float(int64_t rounds) {
  typedef typename L::F F;
  return spin(rounds, L::set(0.0f), L::W, [](F sum, F a) { return L::fma(a, a, sum); });
}

}  // namespace
