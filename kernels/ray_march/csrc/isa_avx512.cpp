// This file is compiled with the -m flags of its instruction set; see CMakeLists.txt.
#include "lanes_avx512.hpp"
#include "mlp.hpp"
#include "tile.hpp"

extern const KernelTable kAvx512Table =
    make_table<Avx512Lanes, NetF32<Avx512Lanes>>(NLS_AVX512, nullptr, keep_voxels_avx2);
