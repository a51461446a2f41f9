// Plain C ABI of libnlsmarch. Structs mirror kernels/ray_march/cpu_impl.py field by field.
#pragma once
#include <stdint.h>

#define NLS_ABI_VERSION 6
#define NLS_MOST_NODES 64  // of a layer's displacement grid, along a side
#define NLS_API extern "C" __attribute__((visibility("default")))

// Instruction sets and the arithmetic of the MLP, about slowest first. "portable" is GCC vectors of four floats: SSE2,
// NEON or plain scalar code. "i16" is fixed point (with VNNI where it is of AVX-512).
enum NlsIsa {
  NLS_PORTABLE = 0,
  NLS_AVX2 = 1,
  NLS_AVX2I16 = 2,
  NLS_AVX512 = 3,
  NLS_AVX512I16 = 4,
  NLS_AVX512BF16 = 5,
  NLS_ISA_COUNT = 6
};

enum NlsStatus { NLS_OK = 0, NLS_BAD_ARGUMENT = 1, NLS_NO_MEMORY = 2, NLS_NO_THREAD = 3, NLS_UNSUPPORTED = 4 };

struct NlsField {
  const uint16_t* planes;    // (3, R, R, 16) IEEE half
  const float* w1;           // (64, 48)
  const float* w2;           // (64, 64)
  const float* w3;           // (4, 64)
  const float* b3;           // (4)
  const uint8_t* occupancy;  // (G, G, G), 0 or 1
  const uint8_t* matter;     // (C, C, C), 0 or 1: where the field can be dense behind the warp; null: anywhere
  int32_t plane_side;        // R
  int32_t grid;              // G
  int32_t matter_grid;       // C
  float box_lo[3], box_hi[3];    // bounds the occupied voxels; lo >= hi when there are none
  float warp_lo[3], warp_hi[3];  // box of the warp grid
  float density_scale, step, termination;
};

struct NlsFrame {
  const float* bias1;  // (64)
  const float* bias2;  // (64)
  const float* warp;   // (warp_nodes[0], [1], [2], 3)
  int32_t warp_nodes[3];
  float cam_to_canonical[12];
  float fx, fy, cx, cy;
  int32_t height, width;
  int32_t profile;  // non-zero: fill NlsStats' times (costs a little)
};

struct NlsStats {
  int64_t samples;      // field evaluations
  int64_t rays;         // rays that entered a tile's march
  int64_t march_steps;  // positions looked up in the distance field (lanes of a packet counted as one)
  // CPU time of all workers
  int64_t occupancy_ns, march_ns, features_ns, mlp_ns, composite_ns;
};

struct NlsScene;

NLS_API int32_t nls_abi_version(void);
NLS_API uint32_t nls_instruction_sets(void);  // bit i set: NlsIsa i runs here
NLS_API int32_t nls_scene_create(const NlsField* field, int32_t isa, int32_t threads, NlsScene** scene);
NLS_API void nls_scene_destroy(NlsScene* scene);
// One render at a time per scene. out: (height, width, 4) premultiplied RGBA. stats may be null.
NLS_API int32_t nls_scene_render(NlsScene* scene, const NlsFrame* frame, float* out, NlsStats* stats);
// kept: (G, G, G), 1 where this frame looks for matter. Not during a render.
NLS_API int32_t nls_scene_occupancy(NlsScene* scene, const NlsFrame* frame, uint8_t* kept);
// Multiply-adds of the MLP's kind on registers, as fast as the core can; returns how many, 0 where isa does not run.
NLS_API int64_t nls_peak(int32_t isa, int64_t rounds);
// rgba: (height, width, 4) premultiplied; underlay: (height, width, 3); out: I420, planes one after another, chroma
// sides rounded up.
NLS_API int32_t nls_composite_i420(const float* rgba, const uint8_t* underlay, int32_t height, int32_t width,
                                   uint8_t* out, int32_t isa);
// layer: (layer_side, layer_side, 4) premultiplied, read at each pixel's place plus the grid's displacement; grid: (nodes,
// nodes, 2) x and y in half pictures, corners aligned; background, out: (height, width, 3).
NLS_API int32_t nls_warp_layer(const uint8_t* layer, int32_t layer_side, const float* grid, int32_t nodes,
                               const uint8_t* background, int32_t height, int32_t width, uint8_t* out);

// Products of few rows with a packed matrix, and attention over short sequences (kernels/dense). Levels that differ in the
// ray marcher's arithmetic only are one level here.
enum NlsActivation { NLS_NONE = 0, NLS_SILU = 1, NLS_GELU = 2 };

struct NlsProduct {
  const float* x;      // (batch, frames, channels)
  const float* scale;  // null, or a layer norm's (channels) for each batch row, scale_step floats apart
  const float* shift;
  const float* add;  // null, or of y's shape; may be y
  float epsilon;
  int32_t scale_step;
  int32_t batch, frames, channels;
  int32_t taps, stride;   // frames side by side that a row sees, zero beyond the ends; and how far apart rows are
  int32_t before, after;  // NlsActivation, of the (normalised) inputs and of the product
};

struct NlsAttention {
  const float *q, *k, *v;  // (batch, queries or keys, heads * size), strides in floats below
  const float* bias;       // null, or (batch, keys): added to scores, -inf where unheard
  float* out;              // (batch, queries, heads * size)
  int64_t q_batch, q_row, k_batch, k_row, v_batch, v_row;
  int32_t batch, queries, keys, heads, size;
  float scale;
};

struct NlsDense;
struct NlsTeam;

NLS_API int32_t nls_team_create(int32_t threads, NlsTeam** team);
NLS_API void nls_team_destroy(NlsTeam* team);
// weight: (outputs, inputs), kept in half precision if that holds all of it exactly; bias: (outputs) or null.
NLS_API int32_t nls_dense_create(const float* weight, const float* bias, int32_t outputs, int32_t inputs, int32_t isa,
                                 NlsDense** dense);
NLS_API void nls_dense_destroy(NlsDense* dense);
NLS_API int64_t nls_dense_bytes(const NlsDense* dense);
// y (batch, (frames - 1) / stride + 1, outputs) = after(windows W^T + bias) + add. team: null for the calling thread
// alone; one product at a time per team.
NLS_API int32_t nls_dense_run(const NlsDense* dense, NlsTeam* team, const NlsProduct* call, float* y);
NLS_API int32_t nls_attend(const NlsAttention* call, int32_t isa);
