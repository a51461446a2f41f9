// C ABI of the ray marcher.
extern "C" __attribute__((visibility("default"))) int nls_abi_version() { return 1; }
