"""The only place that touches OpenMP. A build without it gets stubs: a team of one."""

cdef extern from * nogil:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define VIVA_OPENMP _OPENMP
    static int viva_max_threads(void) { return omp_get_max_threads(); }
    static int viva_processors(void) { return omp_get_num_procs(); }
    #else
    #define VIVA_OPENMP 0
    static int viva_max_threads(void) { return 1; }
    static int viva_processors(void) { return 1; }
    #endif
    """
    int OPENMP "VIVA_OPENMP"    # its version as yyyymm, or 0
    int openmp_max_threads "viva_max_threads" ()
    int openmp_processors "viva_processors" ()
