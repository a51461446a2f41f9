// This file is compiled with the -m flags of its instruction set; see CMakeLists.txt.
#include "lanes_avx512.hpp"
#include "mlp_bf16.hpp"
#include "tile.hpp"

extern const KernelTable kAvx512Bf16Table =
    make_table<Avx512Lanes, NetBf16>(NLS_AVX512BF16, nullptr, keep_voxels_avx2);
