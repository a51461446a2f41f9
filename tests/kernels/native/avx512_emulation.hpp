// The AVX-512 intrinsics that the kernels use, in plain C++: checks the levels of AVX-512 on machines that lack it.
// Included before everything else (NLS_EMULATE_AVX512 in CMakeLists.txt); slow.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace emulated {

template <class To, class From>
inline To as(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}

template <class T, class V = __m512i>
struct Lanes {
  static constexpr int kCount = 64 / static_cast<int>(sizeof(T));
  T v[kCount];
  template <class From>
  static Lanes of(const From& from) { return as<Lanes>(from); }
  template <class Body>
  static V make(const Body& body) {
    Lanes lanes;
    for (int i = 0; i < kCount; i++) lanes.v[i] = body(i);
    return as<V>(lanes);
  }
  template <class A, class Body>
  static V map(const A& a, const Body& body) {
    const Lanes x = of(a);
    return make([&](int i) { return body(x.v[i]); });
  }
  template <class A, class Body>
  static V map(const A& a, const A& b, const Body& body) {
    const Lanes x = of(a), y = of(b);
    return make([&](int i) { return body(x.v[i], y.v[i]); });
  }
};
typedef Lanes<float, __m512> Floats;
typedef Lanes<int32_t> Ints;
typedef Lanes<int16_t> Shorts;

inline uint16_t to_bf16(float f) {
  const uint32_t bits = as<uint32_t>(f);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline float from_bf16(int16_t half) { return as<float>(static_cast<uint32_t>(static_cast<uint16_t>(half)) << 16); }

inline __m512 set1_ps(float x) { return Floats::make([&](int) { return x; }); }
inline __m512i set1_epi32(int x) { return Ints::make([&](int) { return x; }); }
template <class... T>
inline __m512 setr_ps(T... x) {
  const float all[] = {static_cast<float>(x)...};
  return as<__m512>(Floats::of(all));
}
template <class... T>
inline __m512i setr_epi32(T... x) {
  const int32_t all[] = {x...};
  return as<__m512i>(Ints::of(all));
}
template <class V>
inline V load(const void* p) {
  V v;
  std::memcpy(&v, p, 64);
  return v;
}
template <class V>
inline void store(void* p, const V& v) { std::memcpy(p, &v, 64); }

inline __m512 min_ps(__m512 a, __m512 b) { return Floats::map(a, b, [](float x, float y) { return x < y ? x : y; }); }
inline __m512 max_ps(__m512 a, __m512 b) { return Floats::map(a, b, [](float x, float y) { return x > y ? x : y; }); }
inline __m512 abs_ps(__m512 a) { return Floats::map(a, [](float x) { return std::fabs(x); }); }
inline __m512 sqrt_ps(__m512 a) { return Floats::map(a, [](float x) { return std::sqrt(x); }); }
inline __m512 floor_ps(__m512 a) { return Floats::map(a, [](float x) { return std::floor(x); }); }
inline __m512 scalef_ps(__m512 a, __m512 n) {
  return Floats::map(a, n, [](float x, float y) { return std::ldexp(x, static_cast<int>(std::floor(y))); });
}
inline __m512 fmadd_ps(__m512 a, __m512 b, __m512 c) {
  const Floats z = Floats::of(c);
  const Floats x = Floats::of(a), y = Floats::of(b);
  return Floats::make([&](int i) { return std::fma(x.v[i], y.v[i], z.v[i]); });
}
inline __m512i min_epi32(__m512i a, __m512i b) { return Ints::map(a, b, [](int x, int y) { return std::min(x, y); }); }
inline __m512i max_epi32(__m512i a, __m512i b) { return Ints::map(a, b, [](int x, int y) { return std::max(x, y); }); }
inline __m512i and_si512(__m512i a, __m512i b) { return Ints::map(a, b, [](int x, int y) { return x & y; }); }
inline __m512i or_si512(__m512i a, __m512i b) { return Ints::map(a, b, [](int x, int y) { return x | y; }); }
inline __m512i sll_epi32(__m512i a, __m128i bits) {
  const int by = _mm_cvtsi128_si32(bits);
  return Ints::map(a, [&](int x) { return static_cast<int32_t>(static_cast<uint32_t>(x) << by); });
}
inline __m512i cvttps_epi32(__m512 a) {
  const Floats x = Floats::of(a);
  return Ints::make([&](int i) { return _mm_cvttss_si32(_mm_set_ss(x.v[i])); });
}
inline __m512 cvtepi32_ps(__m512i a) {
  const Ints x = Ints::of(a);
  return Floats::make([&](int i) { return static_cast<float>(x.v[i]); });
}
inline __m512 cvtph_ps(__m256i a) {
  const __m256 halves[2] = {_mm256_cvtph_ps(_mm256_castsi256_si128(a)), _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1))};
  return as<__m512>(Floats::of(halves));
}

inline __m512i max_epi16(__m512i a, __m512i b) { return Shorts::map(a, b, [](int16_t x, int16_t y) { return std::max(x, y); }); }
inline __m512i add_epi16(__m512i a, __m512i b) {
  return Shorts::map(a, b, [](int x, int y) { return static_cast<int16_t>(x + y); });
}
inline __m512i mulhrs_epi16(__m512i a, __m512i b) {
  return Shorts::map(a, b, [](int x, int y) { return static_cast<int16_t>(((x * y >> 14) + 1) >> 1); });
}
inline __m512i dpwssd_epi32(__m512i sum, __m512i a, __m512i b) {
  const Ints s = Ints::of(sum);
  const Shorts x = Shorts::of(a), y = Shorts::of(b);
  return Ints::make([&](int i) { return s.v[i] + x.v[2 * i] * y.v[2 * i] + x.v[2 * i + 1] * y.v[2 * i + 1]; });
}
inline __m512i srav_epi32(__m512i a, __m512i bits) { return Ints::map(a, bits, [](int x, int y) { return x >> y; }); }
inline __m512i packus_epi32(__m512i a, __m512i b) {  // in each 128 bits: four of a, four of b
  const Ints x = Ints::of(a), y = Ints::of(b);
  return Shorts::make([&](int i) {
    const int from = i / 8 * 4 + i % 4, value = i % 8 < 4 ? x.v[from] : y.v[from];
    return static_cast<int16_t>(std::min(std::max(value, 0), 65535));
  });
}
template <class A, class B>
inline __m512 dpbf16_ps(__m512 sum, A a, B b) {  // the odd product first, each step rounded
  const Floats s = Floats::of(sum);
  const Shorts x = Shorts::of(a), y = Shorts::of(b);
  return Floats::make([&](int i) {
    const float odd = s.v[i] + from_bf16(x.v[2 * i + 1]) * from_bf16(y.v[2 * i + 1]);
    return odd + from_bf16(x.v[2 * i]) * from_bf16(y.v[2 * i]);
  });
}
inline __m512i cvtne2ps_pbh(__m512 high, __m512 low) {
  const Floats h = Floats::of(high), l = Floats::of(low);
  return Shorts::make([&](int i) { return static_cast<int16_t>(to_bf16(i < 16 ? l.v[i] : h.v[i - 16])); });
}
inline __m256i cvtneps_pbh(__m512 a) {
  const __m512i both = cvtne2ps_pbh(a, a);
  __m256i low;
  std::memcpy(&low, &both, sizeof low);
  return low;
}

inline __mmask16 less_mask(__m512 a, __m512 b) {
  const Floats x = Floats::of(a), y = Floats::of(b);
  unsigned mask = 0;
  for (int i = 0; i < 16; i++) mask |= static_cast<unsigned>(x.v[i] < y.v[i]) << i;
  return static_cast<__mmask16>(mask);
}
inline __mmask16 testn_epi32_mask(__m512i a, __m512i b) {
  const Ints x = Ints::of(a), y = Ints::of(b);
  unsigned mask = 0;
  for (int i = 0; i < 16; i++) mask |= static_cast<unsigned>((x.v[i] & y.v[i]) == 0) << i;
  return static_cast<__mmask16>(mask);
}
inline __m512 mask_blend_ps(__mmask16 m, __m512 no, __m512 yes) {
  const Floats x = Floats::of(no), y = Floats::of(yes);
  return Floats::make([&](int i) { return m >> i & 1 ? y.v[i] : x.v[i]; });
}
inline __m512 maskz_compress_ps(__mmask16 m, __m512 a) {
  const Floats x = Floats::of(a);
  Floats packed{};
  for (int i = 0, n = 0; i < 16; i++)
    if (m >> i & 1) packed.v[n++] = x.v[i];
  return as<__m512>(packed);
}
inline int32_t fetch(const void* base, int32_t index, int scale) {
  int32_t got;
  std::memcpy(&got, static_cast<const char*>(base) + static_cast<int64_t>(index) * scale, sizeof got);
  return got;
}
inline __m512 i32gather_ps(__m512i index, const void* base, int scale) {
  const Ints x = Ints::of(index);
  return Floats::make([&](int i) { return as<float>(fetch(base, x.v[i], scale)); });
}
inline __m512i mask_i32gather_epi32(__m512i other, __mmask16 m, __m512i index, const void* base, int scale) {
  const Ints x = Ints::of(index), y = Ints::of(other);
  return Ints::make([&](int i) { return m >> i & 1 ? fetch(base, x.v[i], scale) : y.v[i]; });
}

// Element i of the result is element from(i) of a, or from(i) - 16 of b.
template <class From>
inline __m512 pick(__m512 a, __m512 b, const From& from) {
  const Floats x = Floats::of(a), y = Floats::of(b);
  return Floats::make([&](int i) { return from(i) < 16 ? x.v[from(i)] : y.v[from(i) - 16]; });
}
inline __m512 unpacklo_ps(__m512 a, __m512 b) {
  return pick(a, b, [](int i) { return i / 4 * 4 + i % 4 / 2 + i % 2 * 16; });
}
inline __m512 unpackhi_ps(__m512 a, __m512 b) {
  return pick(a, b, [](int i) { return i / 4 * 4 + 2 + i % 4 / 2 + i % 2 * 16; });
}
inline __m512 shuffle_ps(__m512 a, __m512 b, int imm) {
  return pick(a, b, [&](int i) { return i / 4 * 4 + (imm >> (i % 4 * 2) & 3) + (i % 4 < 2 ? 0 : 16); });
}
inline __m512 shuffle_f32x4(__m512 a, __m512 b, int imm) {
  return pick(a, b, [&](int i) { return (imm >> (i / 4 * 2) & 3) * 4 + i % 4 + (i < 8 ? 0 : 16); });
}
inline __m512 permutex2var_ps(__m512 a, __m512i index, __m512 b) {
  const Ints x = Ints::of(index);
  return pick(a, b, [&](int i) { return x.v[i] & 31; });
}
inline __m128 extractf32x4_ps(__m512 a, int part) {
  const Floats x = Floats::of(a);
  return _mm_loadu_ps(x.v + 4 * part);
}
inline __m512 broadcast_f32x4(__m128 a) {
  const __m128 all[4] = {a, a, a, a};
  return as<__m512>(Floats::of(all));
}
inline __m512i broadcast_i32x4(__m128i a) {
  const __m128i all[4] = {a, a, a, a};
  return as<__m512i>(Ints::of(all));
}

}  // namespace emulated

#define _mm512_abs_ps emulated::abs_ps
#define _mm512_add_epi16 emulated::add_epi16
#define _mm512_and_si512 emulated::and_si512
#define _mm512_broadcast_f32x4 emulated::broadcast_f32x4
#define _mm512_broadcast_i32x4 emulated::broadcast_i32x4
#define _mm512_castps512_ps128(a) emulated::extractf32x4_ps(a, 0)
#define _mm512_cmp_ps_mask(a, b, less_than) emulated::less_mask(a, b)
#define _mm512_cvtepi32_ps emulated::cvtepi32_ps
#define _mm512_cvtne2ps_pbh emulated::cvtne2ps_pbh
#define _mm512_cvtneps_pbh emulated::cvtneps_pbh
#define _mm512_cvtph_ps emulated::cvtph_ps
#define _mm512_cvttps_epi32 emulated::cvttps_epi32
#define _mm512_dpbf16_ps emulated::dpbf16_ps
#define _mm512_dpwssd_epi32 emulated::dpwssd_epi32
#define _mm512_extractf32x4_ps emulated::extractf32x4_ps
#define _mm512_fmadd_ps emulated::fmadd_ps
#define _mm512_i32gather_ps emulated::i32gather_ps
#define _mm512_load_ps emulated::load<__m512>
#define _mm512_load_si512 emulated::load<__m512i>
#define _mm512_loadu_ps emulated::load<__m512>
#define _mm512_mask_blend_ps emulated::mask_blend_ps
#define _mm512_mask_i32gather_epi32 emulated::mask_i32gather_epi32
#define _mm512_maskz_compress_ps emulated::maskz_compress_ps
#define _mm512_max_epi16 emulated::max_epi16
#define _mm512_max_epi32 emulated::max_epi32
#define _mm512_max_ps emulated::max_ps
#define _mm512_min_epi32 emulated::min_epi32
#define _mm512_min_ps emulated::min_ps
#define _mm512_mulhrs_epi16 emulated::mulhrs_epi16
#define _mm512_or_si512 emulated::or_si512
#define _mm512_packus_epi32 emulated::packus_epi32
#define _mm512_permutex2var_ps emulated::permutex2var_ps
#define _mm512_roundscale_ps(a, down) emulated::floor_ps(a)
#define _mm512_scalef_ps emulated::scalef_ps
#define _mm512_set1_epi32 emulated::set1_epi32
#define _mm512_set1_ps emulated::set1_ps
#undef _mm512_setr_epi32
#undef _mm512_setr_ps
#define _mm512_setr_epi32 emulated::setr_epi32
#define _mm512_setr_ps emulated::setr_ps
#define _mm512_setzero_ps() emulated::set1_ps(0.0f)
#define _mm512_setzero_si512() emulated::set1_epi32(0)
#define _mm512_shuffle_f32x4 emulated::shuffle_f32x4
#define _mm512_shuffle_ps emulated::shuffle_ps
#define _mm512_sll_epi32 emulated::sll_epi32
#define _mm512_sqrt_ps emulated::sqrt_ps
#define _mm512_srav_epi32 emulated::srav_epi32
#define _mm512_store_si512 emulated::store
#define _mm512_storeu_ps emulated::store
#define _mm512_storeu_si512 emulated::store
#define _mm512_testn_epi32_mask emulated::testn_epi32_mask
#define _mm512_unpackhi_ps emulated::unpackhi_ps
#define _mm512_unpacklo_ps emulated::unpacklo_ps

// In api.cpp: whatever AVX-512 is asked for is there.
#define __builtin_cpu_supports(feature) (__builtin_cpu_supports(feature) || !std::strncmp(feature, "avx512", 6))
