// A worker's frame: the loop that ties rays, features and MLP together, and the table entry for it.
#pragma once
#include "color.hpp"
#include "features.hpp"
#include "keep_voxels.hpp"
#include "rays.hpp"

namespace {

constexpr int kBatchPad = 12;
constexpr int kRawStride = kPoolRays + kPad;

template <class L, class Net>
struct alignas(64) Scratch {
  Rays rays;
  alignas(64) typename Net::Act x[(kPoolRays + kBatchPad) * Net::kRow];
  alignas(64) float raw[4 * kRawStride];
};

inline int64_t clock_cost_ns() {
  int64_t least = 1000000, before = now_ns();
  for (int i = 0; i < 16; i++) {
    const int64_t now = now_ns();
    least = now - before < least ? now - before : least;
    before = now;
  }
  return least;
}

template <class L, class Net>
void render_tiles(const FrameView& f, int (*next_tile)(void*), void* source, void* memory, NlsStats& stats) {
  Scratch<L, Net>& s = *(Scratch<L, Net>*)memory;
  const int64_t cost = f.profile ? clock_cost_ns() : 0;
  int64_t mark = f.profile ? now_ns() : 0;
  const auto lap = [&](int64_t& total) {
    if (!f.profile) return;
    const int64_t now = now_ns();
    total += now - mark - cost;
    mark = now;
  };
  int n = 0;
  for (bool more = true; more || n;) {
    while (more && n <= kRefillRays) {
      const int tile = next_tile(source);
      more = tile >= 0;
      if (!more) break;
      const int total = make_rays<L>(f, tile, s.rays, n);
      stats.rays += total - n;
      n = total;
    }
    n = next_samples<L>(f, s.rays, n, stats);
    lap(stats.march_ns);
    stats.samples += n;
    make_features<L, Net>(f, s.rays.px, s.rays.py, s.rays.pz, n, s.x);
    lap(stats.features_ns);
    Net::run(f, s.x, n, s.raw, kRawStride);
    lap(stats.mlp_ns);
    composite<L>(f, s.rays, s.raw, kRawStride, n);
    lap(stats.composite_ns);
  }
}

template <class L, class Net>
constexpr KernelTable make_table(int isa, const KernelTable* exact = nullptr, KeepVoxels* keep = keep_voxels<L>) {
  return {isa,
          Net::kChunk,
          L::W,
          sizeof(typename L::Plane) == 4,
          exact,
          sizeof(Scratch<L, Net>),
          render_tiles<L, Net>,
          keep,
          Net::peak,
          composite_i420<L>};
}

}  // namespace
