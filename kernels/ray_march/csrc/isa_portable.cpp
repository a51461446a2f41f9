// This file is compiled with the -m flags of its instruction set; see CMakeLists.txt.
#include "lanes_portable.hpp"
#include "mlp.hpp"
#include "tile.hpp"

extern const KernelTable kPortableTable = make_table<PortableLanes, NetF32<PortableLanes>>(NLS_PORTABLE);
