// Premultiplied RGBA over an opaque underlay, then BT.601 limited-range I420: one thread per 2 x 2 pixels, one grid
// layer per slot. The order of operations is that of kernels/color/reference.py, each rounded to float by itself
// (`_rn`: never joined to one multiply-add), so the bytes are equal. Compiled at run time by CuPy (cupy_impl.py); the
// tests compile it for the host as well, behind a header that stands in for CUDA's names (tests/kernels/color_host.cpp).

__device__ float clamp_255(float v) { return fminf(fmaxf(v, 0.0f), 255.0f); }

__device__ float over(float head, float behind, unsigned char under) {
  return clamp_255(__fadd_rn(__fmul_rn(head, 255.0f), __fmul_rn(behind, (float)under)));
}

// Truncates: the values are positive and `offset` holds the half that rounds to nearest.
__device__ unsigned char channel(float r, float g, float b, float kr, float kg, float kb, float offset) {
  const float sum = __fadd_rn(__fadd_rn(__fmul_rn(r, kr), __fmul_rn(g, kg)), __fmul_rn(b, kb));
  return (unsigned char)(int)__fadd_rn(sum, offset);
}

__device__ float mean4(float top_left, float top_right, float bottom_left, float bottom_right) {
  return __fmul_rn(__fadd_rn(__fadd_rn(top_left, top_right), __fadd_rn(bottom_left, bottom_right)), 0.25f);
}

// rgba (slots, height, width, 4); underlay (pictures, height, width, 3); which (slots): the slot's picture, or null for
// its own; out (slots, height * width + 2 * ceil(height / 2) * ceil(width / 2)). At odd sides the last row or column
// counts twice in chroma.
extern "C" __global__ void composite_i420(const float4* rgba, const unsigned char* underlay, const long long* which,
                                          int height, int width, unsigned char* out) {
  const int cell_x = blockIdx.x * blockDim.x + threadIdx.x, cell_y = blockIdx.y * blockDim.y + threadIdx.y;
  const int cells_x = (width + 1) / 2, cells_y = (height + 1) / 2;
  if (cell_x >= cells_x || cell_y >= cells_y) return;
  const long long slot = blockIdx.z, pixels = (long long)height * width, cells = (long long)cells_x * cells_y;
  const float4* head = rgba + slot * pixels;
  const unsigned char* under = underlay + 3 * pixels * (which ? which[slot] : slot);
  unsigned char* luma = out + slot * (pixels + 2 * cells);
  float r[4], g[4], b[4];
  for (int i = 0; i < 4; i++) {
    const int x = min(2 * cell_x + i % 2, width - 1), y = min(2 * cell_y + i / 2, height - 1);
    const long long at = (long long)y * width + x;
    const float4 pixel = head[at];
    const float behind = __fadd_rn(1.0f, -pixel.w);
    r[i] = over(pixel.x, behind, under[3 * at]);
    g[i] = over(pixel.y, behind, under[3 * at + 1]);
    b[i] = over(pixel.z, behind, under[3 * at + 2]);
    luma[at] = channel(r[i], g[i], b[i], Y_R, Y_G, Y_B, 16.5f);
  }
  const float mean_r = mean4(r[0], r[1], r[2], r[3]), mean_g = mean4(g[0], g[1], g[2], g[3]),
              mean_b = mean4(b[0], b[1], b[2], b[3]);
  unsigned char* chroma = luma + pixels + (long long)cell_y * cells_x + cell_x;
  chroma[0] = channel(mean_r, mean_g, mean_b, U_R, U_G, U_B, 128.5f);
  chroma[cells] = channel(mean_r, mean_g, mean_b, V_R, V_G, V_B, 128.5f);
}
