// A loop of nothing but the MLP's multiply-adds, on registers: what the core can do at most.
#pragma once
#include "tile_job.hpp"

// Makes the compiler forget what it knows of a vector, and costs no instruction: for its register, where there is a
// name for one.
#if defined(__x86_64__) || defined(__i386__)
#define NLS_FORGET(v) __asm__ volatile("" : "+x"(v))
#elif defined(__aarch64__)
#define NLS_FORGET(v) __asm__ volatile("" : "+w"(v))
#else
#define NLS_FORGET(v) __asm__ volatile("" : "+m"(v))
#endif

namespace {

constexpr int kPeakSums = 12;  // independent, more than latency times issue width

// `step(sum, a)` adds `per_step` products to `sum`. Returns how many were done.
template <class V, class Step>
inline int64_t spin(int64_t rounds, V a, int per_step, const Step& step) {
  V sum[kPeakSums];
#pragma GCC unroll 12
  for (int i = 0; i < kPeakSums; i++) {
    V start = a;
    NLS_FORGET(start);  // or all sums would be one
    sum[i] = start;
  }
  for (int64_t r = 0; r < rounds; r++)
#pragma GCC unroll 4
    for (int turn = 0; turn < 4; turn++)
#pragma GCC unroll 12
      for (int i = 0; i < kPeakSums; i++) {
        NLS_FORGET(a);  // or its product would be made once for all
        sum[i] = step(sum[i], a);
      }
#pragma GCC unroll 12
  for (int i = 0; i < kPeakSums; i++) {
    V last = sum[i];  // not the sum itself: it would stay in memory
    NLS_FORGET(last);
  }
  return rounds * 4 * kPeakSums * per_step;
}

template <class L>
int64_t spin_float(int64_t rounds) {
  typedef typename L::F F;
  return spin(rounds, L::set(0.0f), L::W, [](F sum, F a) { return L::fma(a, a, sum); });
}

}  // namespace
