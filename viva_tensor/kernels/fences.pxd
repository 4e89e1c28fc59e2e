"""Tells an AddressSanitizer build about memory that is cut out of a larger block; does nothing in other builds."""

cdef extern from * nogil:
    """
    #if defined(__SANITIZE_ADDRESS__)
    #include <sanitizer/asan_interface.h>
    #define viva_fence(from, size) __asan_poison_memory_region(from, size)
    #else
    #define viva_fence(from, size) ((void)(from), (void)(size))
    #endif
    """
    # nobody may read or write here until the block is freed
    void fence "viva_fence" (const void* begin, size_t size)
