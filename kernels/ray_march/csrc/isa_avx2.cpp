// This file is compiled with the -m flags of its instruction set; see CMakeLists.txt.
#include "lanes_avx2.hpp"
#include "mlp.hpp"
#include "tile.hpp"

extern const KernelTable kAvx2Table = make_table<Avx2Lanes, NetF32<Avx2Lanes>>(NLS_AVX2);

void keep_voxels_avx2(const FrameView& frame, const OccupancyJob& job, OccupancyScratch scratch, int from, int to,
                      NlsStats& stats) {
  keep_voxels<Avx2Lanes>(frame, job, scratch, from, to, stats);
}
