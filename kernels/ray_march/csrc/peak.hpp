// A loop of nothing but the MLP's multiply-adds, on registers: what the core can do at most.
#pragma once
#include "tile_job.hpp"

namespace {

constexpr int kPeakSums = 12;  // independent, more than latency times issue width

// `step(sum, a)` adds `per_step` products to `sum`. Returns how many were done.
template <class V, class Step>
inline int64_t spin(int64_t rounds, V a, int per_step, const Step& step) {
  V sum[kPeakSums];
#pragma GCC unroll 12
  for (int i = 0; i < kPeakSums; i++) sum[i] = a;
  for (int64_t r = 0; r < rounds; r++) {
    __asm__ volatile("" : "+m"(a));  // or the products would be taken out of the loop
    const V in = a;
#pragma GCC unroll 4
    for (int turn = 0; turn < 4; turn++)
#pragma GCC unroll 12
      for (int i = 0; i < kPeakSums; i++) sum[i] = step(sum[i], in);
  }
#pragma GCC unroll 12
  for (int i = 0; i < kPeakSums; i++) __asm__ volatile("" : : "m"(sum[i]));
  return rounds * 4 * kPeakSums * per_step;
}

template <class L>
int64_t spin_float(int64_t rounds) {
  typedef typename L::F F;
  return spin(rounds, L::set(0.0f), L::W, [](F sum, F a) { return L::fma(a, a, sum); });
}

}  // namespace
