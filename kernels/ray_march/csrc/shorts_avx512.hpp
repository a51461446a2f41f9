// Fixed point of AVX-512 (BW, VNNI).
#pragma once
#include "lanes_avx512.hpp"

namespace {

// Thirty-two short integers.
struct Avx512Shorts {
  typedef __m512i V;
  static constexpr int W = 32;
  static constexpr int kBlockSamples = 3, kBlockVectors = 4;

  static V load(const int16_t* p) { return _mm512_load_si512(p); }
  static V load(const int32_t* p) { return _mm512_load_si512(p); }
  static void store(int16_t* p, V v) { _mm512_store_si512(p, v); }
  static V positive(V v) { return _mm512_max_epi16(v, _mm512_setzero_si512()); }
  // sum + a b 2^-15, the product rounded.
  static V add_scaled(V sum, V a, V b) { return _mm512_add_epi16(sum, _mm512_mulhrs_epi16(a, b)); }
  static V repeat_pair(const int16_t* p) {
    int32_t pair;
    __builtin_memcpy(&pair, p, sizeof pair);
    return _mm512_set1_epi32(pair);
  }
  static V repeat8(const int16_t* p) { return _mm512_broadcast_i32x4(_mm_load_si128((const __m128i*)p)); }
  static V either(V a, V b) { return _mm512_or_si512(a, b); }
  static uint32_t pairs_not_zero(V a) { return (uint16_t)~_mm512_testn_epi32_mask(a, a); }  // a bit for each 32
  static V shift_right(V a, V bits) { return _mm512_srav_epi32(a, bits); }
  // 32-bit integers to 16 bits, 0 where negative: four of a, four of b, and so on.
  static V narrow(V a, V b) { return _mm512_packus_epi32(a, b); }
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
