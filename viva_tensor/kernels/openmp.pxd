"""All use of OpenMP. A build without OpenMP gets stubs: a team of one."""

from viva_tensor.kernels.cores cimport Core

cdef extern from * nogil:
    """
    #define VIVA_FLAGS_APART 32 /* elements: a cache line, and the neighbour that is fetched with it */
    #ifdef _OPENMP
    #include <omp.h>
    #define VIVA_OPENMP _OPENMP
    static int viva_max_threads(void) { return omp_get_max_threads(); }
    static int viva_processors(void) { return omp_get_num_procs(); }
    #if defined(__SANITIZE_THREAD__)
    /* ThreadSanitizer does not see how libgomp hands over work; it does see threads begin and end. */
    #include <pthread.h>
    #include <stdlib.h>
    typedef struct { void (*core)(const void *, int, int); const void *args; int thread, threads; } viva_share;
    static void *viva_do_share(void *packed) {
        const viva_share *share = packed;
        share->core(share->args, share->thread, share->threads);
        return NULL;
    }
    static void viva_team(void (*core)(const void *, int, int), const void *args, int threads) {
        viva_share all[threads];
        pthread_t started[threads];
        for (int i = 0; i < threads; i++) {
            all[i] = (viva_share){core, args, i, threads};
            if (i > 0 && pthread_create(&started[i], NULL, viva_do_share, &all[i])) abort();
        }
        viva_do_share(&all[0]);
        for (int i = 1; i < threads; i++) pthread_join(started[i], NULL);
    }
    #else
    static void viva_team(void (*core)(const void *, int, int), const void *args, int threads) {
        #pragma omp parallel num_threads(threads)
        core(args, omp_get_thread_num(), omp_get_num_threads());
    }
    #endif
    /* A forked child would wait for GCC's idle threads, which it does not have; LLVM's runtime recovers by itself. */
    #if defined(__clang__) || !defined(__GNUC__)
    static int viva_dismiss(void) { return 1; }
    #elif __GNUC__ >= 9
    static int viva_dismiss(void) { return omp_pause_resource_all(omp_pause_hard) == 0; }
    #else
    static int viva_dismiss(void) { return 0; }
    #endif
    #if defined(__GNUC__)
    #include <sched.h>
    /* Each thread has a flag on a separate cache line. It yields after a long wait, sooner if processors are short. */
    static void viva_wait(unsigned *flags, int thread, int threads, unsigned round) {
        int patience = 500;
        __atomic_store_n(flags + VIVA_FLAGS_APART * thread, round, __ATOMIC_RELEASE);
        for (int other = 0; other < threads; other++)
            for (int spins = 0;
                 (int)(__atomic_load_n(flags + VIVA_FLAGS_APART * other, __ATOMIC_ACQUIRE) - round) < 0; spins++)
                if (spins >= patience) {
                    if (patience == 500 && threads <= omp_get_num_procs()) patience = 20000;
                    else sched_yield();
                }
    }
    #endif
    #else
    #define VIVA_OPENMP 0
    static int viva_dismiss(void) { return 1; }
    static int viva_max_threads(void) { return 1; }
    static int viva_processors(void) { return 1; }
    static void viva_team(void (*core)(const void *, int, int), const void *args, int threads) {
        (void)threads;
        core(args, 0, 1);
    }
    #endif
    #if !defined(_OPENMP) || !defined(__GNUC__)
    static void viva_wait(unsigned *flags, int thread, int threads, unsigned round) {
        (void)flags; (void)thread; (void)threads; (void)round;
        #ifdef _OPENMP
        #pragma omp barrier
        #endif
    }
    #endif
    """
    enum:
        FLAGS_APART "VIVA_FLAGS_APART"
    int OPENMP "VIVA_OPENMP"    # its version as yyyymm, or 0
    int openmp_max_threads "viva_max_threads" ()
    int openmp_processors "viva_processors" ()
    bint openmp_dismiss "viva_dismiss" ()   # before a fork: whether the calling thread can form a new team after it
    # wait until all threads of the region reach this round; `flags` has FLAGS_APART elements for each thread
    void openmp_wait "viva_wait" (unsigned* flags, int thread, int threads, unsigned round)
    void openmp_team "viva_team" (Core core, const void* args, int threads)
