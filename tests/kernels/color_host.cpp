// Stands in for CUDA so that g++ compiles the colour kernel's own source: a grid's threads run one after another.
// Build with -ffp-contract=off, since `_rn` means one rounding for each operation.
#include <algorithm>
#include <cmath>

#define __device__ static inline
#define __global__
using std::min;

struct float4 {
  float x, y, z, w;
};
struct Index {
  int x, y, z;
};
static Index blockIdx, blockDim, threadIdx;

static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
using std::fmaxf;
using std::fminf;

#include KERNEL_SOURCE

extern "C" void run_grid(const float* rgba, const unsigned char* underlay, const long long* which, int slots, int height,
                         int width, int grid_x, int grid_y, int threads_x, int threads_y, unsigned char* out) {
  blockDim = {threads_x, threads_y, 1};
  for (blockIdx.z = 0; blockIdx.z < slots; blockIdx.z++)
    for (blockIdx.y = 0; blockIdx.y < grid_y; blockIdx.y++)
      for (blockIdx.x = 0; blockIdx.x < grid_x; blockIdx.x++)
        for (threadIdx.y = 0; threadIdx.y < threads_y; threadIdx.y++)
          for (threadIdx.x = 0; threadIdx.x < threads_x; threadIdx.x++)
            composite_i420((const float4*)rgba, underlay, which, height, width, out);
}
