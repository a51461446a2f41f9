// C ABI: chooses the instruction set's table, turns exceptions into status codes.

#include "guarded.hpp"
#include "scene.hpp"

namespace {

bool runs_here(int isa) {
#if NLS_X86
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (isa == NLS_AVX2 || isa == NLS_AVX2I16) return avx2;
  if (isa == NLS_AVX512) return avx512;
  if (isa == NLS_AVX512I16) return avx512 && __builtin_cpu_supports("avx512vnni");
  if (isa == NLS_AVX512BF16) return avx512 && __builtin_cpu_supports("avx512bf16");
#endif
  return isa == NLS_PORTABLE;
}

const KernelTable* table_of(int isa) {
  if (!runs_here(isa)) return nullptr;
#if NLS_X86
  if (isa == NLS_AVX2) return &kAvx2Table;
  if (isa == NLS_AVX2I16) return &kAvx2I16Table;
  if (isa == NLS_AVX512) return &kAvx512Table;
  if (isa == NLS_AVX512I16) return &kAvx512I16Table;
  if (isa == NLS_AVX512BF16) return &kAvx512Bf16Table;
#endif
  return &kPortableTable;
}

bool good_warp(const NlsFrame& frame) {
  for (const int32_t nodes : frame.warp_nodes)
    if (nodes < 2 || nodes > 256) return false;
  return true;
}

}  // namespace

int32_t nls_abi_version(void) { return NLS_ABI_VERSION; }

uint32_t nls_instruction_sets(void) {
  uint32_t sets = 0;
  for (int isa = 0; isa < NLS_ISA_COUNT; isa++)
    if (runs_here(isa)) sets |= 1u << isa;
  return sets;
}

int32_t nls_scene_create(const NlsField* field, int32_t isa, int32_t threads, NlsScene** scene) {
  if (!field || !scene || threads < 1 || field->plane_side < 2 || field->plane_side > 1024 || field->grid < 1 ||
      field->grid > 256 ||
      (field->matter && (field->matter_grid < 1 || field->matter_grid > 256)))
    return NLS_BAD_ARGUMENT;
  const KernelTable* table = table_of(isa);
  if (!table) return NLS_UNSUPPORTED;
  return guarded([&] { *scene = new NlsScene(*field, *table, threads); });
}

void nls_scene_destroy(NlsScene* scene) { delete scene; }

int32_t nls_scene_render(NlsScene* scene, const NlsFrame* frame, float* out, NlsStats* stats) {
  if (!scene || !frame || !out || frame->height < 1 || frame->width < 1 || frame->height > 4096 ||
      frame->width > 4096 || !good_warp(*frame))
    return NLS_BAD_ARGUMENT;
  NlsStats local;
  return guarded([&] { scene->render(*frame, out, stats ? *stats : local); });
}

int32_t nls_scene_occupancy(NlsScene* scene, const NlsFrame* frame, uint8_t* kept) {
  if (!scene || !frame || !kept || !good_warp(*frame)) return NLS_BAD_ARGUMENT;
  return guarded([&] { scene->occupancy(*frame, kept); });
}

int64_t nls_peak(int32_t isa, int64_t rounds) {
  const KernelTable* table = table_of(isa);
  return table && rounds > 0 ? table->peak(rounds) : 0;
}

int32_t nls_composite_i420(const float* rgba, const uint8_t* underlay, int32_t height, int32_t width, uint8_t* out,
                           int32_t isa) {
  if (!rgba || !underlay || !out || height < 1 || width < 1) return NLS_BAD_ARGUMENT;
  const KernelTable* table = table_of(isa);
  if (!table) return NLS_UNSUPPORTED;
  table->composite_i420(rgba, underlay, height, width, out);
  return NLS_OK;
}
