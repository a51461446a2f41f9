// This file is compiled with the -m flags of its instruction set; see CMakeLists.txt.
#include "mlp_fixed.hpp"
#include "shorts_avx512.hpp"
#include "tile.hpp"

extern const KernelTable kAvx512I16Table =
    make_table<Avx512Lanes, NetFixed<Avx512Lanes, Avx512Shorts>>(NLS_AVX512I16, &kAvx512Table, keep_voxels_avx2);
