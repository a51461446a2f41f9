// This file is compiled with the -m flags of its instruction set; see CMakeLists.txt.
#include "lanes_avx2.hpp"
#include "mlp_fixed.hpp"
#include "tile.hpp"

extern const KernelTable kAvx2I16Table =
    make_table<Avx2Lanes, NetFixed<Avx2Lanes, Avx2Shorts>>(NLS_AVX2I16, &kAvx2Table);
