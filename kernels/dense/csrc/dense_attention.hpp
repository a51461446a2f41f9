// softmax(scale q k^T + bias) v for short sequences, one head after another.
#pragma once
#include "dense_rows.hpp"

namespace {

constexpr int kQueries = 4;  // at a time

template <class L>
inline long padded_keys(const NlsAttention& call) {
  return (call.keys + 2 * L::W - 1) / (2 * L::W) * (2 * L::W);
}

template <class L>
unsigned long attend_floats(const NlsAttention& call) {
  return (unsigned long)padded_keys<L>(call) * (unsigned long)(call.size + kQueries + 1);
}

// R rows of q against the keys (transposed, `padded` apart), as shares that sum to 1; all 0 where nothing is heard.
template <class L, int R>
inline void shares_of(const NlsAttention& call, const float* q, const float* keys, const float* bias, long padded,
                      float* shares) {
  typedef typename L::F F;
  for (long s = 0; s < padded; s += 2 * L::W) {
    F sum[R][2];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = L::set(0.0f);
    for (int d = 0; d < call.size; d++) {
      const F a = L::load(keys + d * padded + s), b = L::load(keys + d * padded + s + L::W);
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) {
        const F in = L::set(q[r * call.q_row + d]);
        sum[r][0] = L::fma(in, a, sum[r][0]);
        sum[r][1] = L::fma(in, b, sum[r][1]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
      for (int v = 0; v < 2; v++)
        L::store(shares + r * padded + s + v * L::W,
                 L::fma(sum[r][v], L::set(call.scale), L::load(bias + s + v * L::W)));
  }
  for (int r = 0; r < R; r++) {
    float* row = shares + r * padded;
    float most = -1e30f, sum = 0.0f;
    for (int s = 0; s < call.keys; s++) most = row[s] > most ? row[s] : most;
    F total = L::set(0.0f);
    for (long s = 0; s < padded; s += L::W) {
      const F x = L::load(row + s) - L::set(most);
      const F e = L::select(L::less(x, L::set(-80.0f)), L::set(0.0f), exponential<L>(x));
      total = total + e;
      L::store(row + s, e);
    }
    sum = sum_of<L>(total);
    const F inverse = L::set(sum > 0.0f ? 1.0f / sum : 0.0f);
    for (long s = 0; s < padded; s += L::W) L::store(row + s, L::load(row + s) * inverse);
  }
}

template <class L, int R>
inline void mix(const NlsAttention& call, const float* values, const float* shares, long padded, float* out) {
  typedef typename L::F F;
  const long width = (long)call.heads * call.size;
  for (int d = 0; d < call.size; d += L::W) {
    const int count = call.size - d;
    F sum[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) sum[r] = L::set(0.0f);
    for (int s = 0; s < call.keys; s++) {
      const F v = load_part<L>(values + s * call.v_row + d, count);
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) sum[r] = L::fma(L::set(shares[r * padded + s]), v, sum[r]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) store_part<L>(out + r * width + d, sum[r], count);
  }
}

template <class L, int R>
inline void attend_rows(const NlsAttention& call, const float* q, const float* keys, const float* bias,
                        const float* values, long padded, float* shares, float* out) {
  shares_of<L, R>(call, q, keys, bias, padded, shares);
  mix<L, R>(call, values, shares, padded, out);
}

template <class L>
void attend(const NlsAttention& call, float* scratch) {
  const long padded = padded_keys<L>(call), width = (long)call.heads * call.size;
  float *bias = scratch, *shares = bias + padded, *keys = shares + kQueries * padded;
  for (int batch = 0; batch < call.batch; batch++) {
    for (long s = 0; s < padded; s++)
      bias[s] = s >= call.keys ? -__builtin_inff() : call.bias ? call.bias[(long)batch * call.keys + s] : 0.0f;
    for (int head = 0; head < call.heads; head++) {
      const float* k = call.k + batch * call.k_batch + (long)head * call.size;
      const float* v = call.v + batch * call.v_batch + (long)head * call.size;
      const float* q = call.q + batch * call.q_batch + (long)head * call.size;
      float* out = call.out + (long)batch * call.queries * width + (long)head * call.size;
      for (int d = 0; d < call.size; d++)
        for (long s = 0; s < padded; s++) keys[d * padded + s] = s < call.keys ? k[s * call.k_row + d] : 0.0f;
      int t = 0;
      for (; t + kQueries <= call.queries; t += kQueries)
        attend_rows<L, kQueries>(call, q + t * call.q_row, keys, bias, v, padded, shares, out + t * width);
      for (; t < call.queries; t++)
        attend_rows<L, 1>(call, q + t * call.q_row, keys, bias, v, padded, shares, out + t * width);
    }
  }
}

template <class L, int R, int V>
constexpr DenseTable dense_table(int halves) {
  return {V * L::W, halves, multiply<L, R, V>, prepare_rows<L>, attend_floats<L>, attend<L>};
}

}  // namespace
