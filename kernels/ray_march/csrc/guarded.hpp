// Turns exceptions into the C ABI's status codes.
#pragma once
#include <cstdint>
#include <new>
#include <system_error>

#include "abi.h"

template <class Body>
int32_t guarded(const Body& body) {
  try {
    body();
    return NLS_OK;
  } catch (const std::bad_alloc&) {
    return NLS_NO_MEMORY;
  } catch (const std::system_error&) {
    return NLS_NO_THREAD;
  }
}
