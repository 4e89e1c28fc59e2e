"""The only place that touches OpenMP. A build without it gets stubs: a team of one."""

from viva_tensor.kernels.cores cimport Core

cdef extern from * nogil:
    """
    #ifdef _OPENMP
    #include <omp.h>
    #define VIVA_OPENMP _OPENMP
    static int viva_max_threads(void) { return omp_get_max_threads(); }
    static int viva_processors(void) { return omp_get_num_procs(); }
    static void viva_team(void (*core)(const void *, int, int), const void *args, int members) {
        #pragma omp parallel num_threads(members)
        core(args, omp_get_thread_num(), omp_get_num_threads());
    }
    #else
    #define VIVA_OPENMP 0
    static int viva_max_threads(void) { return 1; }
    static int viva_processors(void) { return 1; }
    static void viva_team(void (*core)(const void *, int, int), const void *args, int members) {
        (void)members;
        core(args, 0, 1);
    }
    #endif
    """
    int OPENMP "VIVA_OPENMP"    # its version as yyyymm, or 0
    int openmp_max_threads "viva_max_threads" ()
    int openmp_processors "viva_processors" ()
    void openmp_team "viva_team" (Core core, const void* args, int members)
