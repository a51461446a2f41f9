// Fixed point of AVX-512 (BW, VNNI).
#pragma once
#include "lanes_avx512.hpp"

namespace {

// Thirty-two short integers.
struct Avx512Shorts {
  typedef __m512i V;
  static constexpr int W = 32;
  static constexpr int kBlockSamples = 6, kBlockVectors = 4;

  static V load(const int16_t* p) { return _mm512_load_si512(p); }
  static V load(const int32_t* p) { return _mm512_load_si512(p); }
  static void store(int16_t* p, V v) { _mm512_store_si512(p, v); }
  static V positive(V v) { return _mm512_max_epi16(v, _mm512_setzero_si512()); }
  // Saturated sum + a b 2^-15, the product rounded.
  static V add_scaled(V sum, V a, V b) { return _mm512_adds_epi16(sum, _mm512_mulhrs_epi16(a, b)); }
  static V repeat_pair(const int16_t* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  // 32-bit sums of two products each. In assembly, because GCC 12 copies a block's sums from register to register at
  // every step and stores them, too.
  static V add_dot(V sum, V a, V b) {
#ifdef __AVX512VNNI__
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
#else  // emulated
    return _mm512_dpwssd_epi32(sum, a, b);
#endif
  }
};

}  // namespace
