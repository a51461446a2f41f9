// Products of few rows with packed weights, over lanes: each block of rows keeps its sums in registers while a panel of
// weights, converted as it is read, passes once.
#pragma once
#include "dense.hpp"
#include "lane_math.hpp"

namespace {

// At most W floats as a vector, zero beyond; and back.
template <class L>
inline typename L::F load_part(const float* p, int count) {
  if (count >= L::W) return L::load(p);
  float part[L::W] = {};
  for (int i = 0; i < count; i++) part[i] = p[i];
  return L::load(part);
}

template <class L>
inline void store_part(float* p, typename L::F v, int count) {
  if (count >= L::W) return L::store(p, v);
  float part[L::W];
  L::store(part, v);
  for (int i = 0; i < count; i++) p[i] = part[i];
}

template <class L>
inline float sum_of(typename L::F v) {
  float part[L::W], sum = 0.0f;
  L::store(part, v);
  for (int i = 0; i < L::W; i++) sum += part[i];
  return sum;
}

// x Phi(x), by the error function to 1.5e-7 (Abramowitz and Stegun 7.1.26).
template <class L>
inline typename L::F gelu(typename L::F x) {
  constexpr float kErf[5] = {0.254829592f, -0.284496736f, 1.421413741f, -1.453152027f, 1.061405429f};
  const typename L::F one = L::set(1.0f), z = L::abs(x) * L::set(0.707106781f);
  const typename L::F t = one / L::fma(z, L::set(0.3275911f), one);
  const typename L::F tail = polynomial<L>(kErf, t) * t * exponential<L>(L::set(0.0f) - z * z);  // 1 - erf(z)
  const typename L::F half = L::set(0.5f) * x, beyond = half * tail;
  return L::select(L::less(x, L::set(0.0f)), beyond, x - beyond);
}

template <class L>
inline typename L::F activated(typename L::F x, int kind) {
  if (kind == NLS_SILU) return x * sigmoid<L>(x);
  if (kind == NLS_GELU) return gelu<L>(x);
  return x;
}

template <class L>
inline typename L::F load_weights(const float* p) { return L::load(p); }
template <class L>
inline typename L::F load_weights(const uint16_t* p) { return L::load_plane(p); }

// R rows times one panel of V vectors.
template <class L, class Weight, int R, int V>
inline void multiply_block(const DenseJob& job, const float* const* rows, long row, int panel, const Weight* weights) {
  typedef typename L::F F;
  F sum[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) sum[r][v] = L::set(0.0f);
  const float* x[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++) x[r] = rows[r];
  for (long k = 0; k < job.inputs; k++) {
    F w[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) w[v] = load_weights<L>(weights + k * (V * L::W) + v * L::W);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      const F in = L::set(x[r][k]);
#pragma GCC unroll 2
      for (int v = 0; v < V; v++) sum[r][v] = L::fma(in, w[v], sum[r][v]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int v = 0; v < V; v++) {
      const int out = panel * V * L::W + v * L::W, count = job.outputs - out;
      if (count <= 0) continue;
      const long at = (row + r) * job.outputs + out;
      F y = activated<L>(sum[r][v] + L::load(job.bias + out), job.after);
      if (job.add) y = y + load_part<L>(job.add + at, count);
      store_part<L>(job.y + at, y, count);
    }
}

template <class L, class Weight, int R, int V>
inline void multiply_rows(int count, const DenseJob& job, const float* const* rows, long row, int panel,
                          const Weight* weights) {
  if (count == R) return multiply_block<L, Weight, R, V>(job, rows, row, panel, weights);
  if constexpr (R > 1) multiply_rows<L, Weight, R - 1, V>(count, job, rows, row, panel, weights);
}

template <class L, class Weight, int R, int V>
void multiply_panels(const DenseJob& job, int first_panel, int end_panel) {
  const long count = (long)job.batch * job.frames, blocks = (count + R - 1) / R;
  for (int panel = first_panel; panel < end_panel; panel++) {
    const Weight* weights = (const Weight*)job.weights + (long)panel * job.inputs * (V * L::W);
    const long bytes = panel + 1 < end_panel && blocks > 2 ? (long)job.inputs * (V * L::W) * (long)sizeof(Weight) : 0;
    for (long block = 0; block < blocks; block++) {  // of about equal size
      // The next panel, a share with each block: from memory it takes about as long as this one's products.
      for (long at = block * bytes / blocks; at < (block + 1) * bytes / blocks; at += 64)
        __builtin_prefetch((const char*)weights + bytes + at);
      const long row = block * count / blocks, end = (block + 1) * count / blocks;
      const float* rows[R];
      for (long r = row; r < end; r++)
        rows[r - row] = job.rows + r / job.frames * job.batch_step + r % job.frames * job.row_step;
      multiply_rows<L, Weight, R, V>((int)(end - row), job, rows, row, panel, weights);
    }
  }
}

template <class L, int R, int V>
void multiply(const DenseJob& job, int halves, int first_panel, int end_panel) {
  if (halves)
    multiply_panels<L, typename L::Plane, R, V>(job, first_panel, end_panel);
  else
    multiply_panels<L, float, R, V>(job, first_panel, end_panel);
}

template <class L>
void normalise(const NlsProduct& call, const float* x, long batch, float* out) {
  const int count = call.channels;
  const float* scale = call.scale + batch * call.scale_step;
  const float* shift = call.shift + batch * call.scale_step;
  typename L::F sum = L::set(0.0f), squares = L::set(0.0f);
  for (int c = 0; c < count; c += L::W) sum = sum + load_part<L>(x + c, count - c);
  const typename L::F mean = L::set(sum_of<L>(sum) / (float)count);
  for (int c = 0; c < count; c += L::W) {
    const typename L::F away = load_part<L>(x + c, count - c) - mean;
    const typename L::F off = L::select(L::first(count - c), away, L::set(0.0f));
    squares = L::fma(off, off, squares);
  }
  const float variance = sum_of<L>(squares) / (float)count;
  const typename L::F inverse = L::set(1.0f) / L::sqrt(L::set(variance + call.epsilon));
  for (int c = 0; c < count; c += L::W) {
    const typename L::F off = (load_part<L>(x + c, count - c) - mean) * inverse;
    const typename L::F y = L::fma(off, load_part<L>(scale + c, count - c), load_part<L>(shift + c, count - c));
    store_part<L>(out + c, activated<L>(y, call.before), count - c);
  }
}

template <class L>
void prepare_rows(const NlsProduct& call, int pad, float* rows) {
  const long step = call.channels;
  const auto zeros = [&](float* p) {
    for (long i = 0; i < pad * step; i++) p[i] = 0.0f;
    return p + pad * step;
  };
  const float* x = call.x;
  for (int batch = 0; batch < call.batch; batch++) {
    rows = zeros(rows);
    for (int frame = 0; frame < call.frames; frame++, rows += step, x += step) {
      if (call.scale)
        normalise<L>(call, x, batch, rows);
      else
        for (int c = 0; c < call.channels; c += L::W)
          store_part<L>(rows + c, activated<L>(load_part<L>(x + c, call.channels - c), call.before),
                        call.channels - c);
    }
    rows = zeros(rows);
  }
}

}  // namespace
