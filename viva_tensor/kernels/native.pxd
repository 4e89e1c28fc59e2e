"""The operating system's threads, from which OpenMP forms its teams: whether more can be started, and forks."""

cdef extern from * nogil:
    """
    #if defined(_OPENMP) && !defined(_WIN32)
    #include <pthread.h>
    #include <stdlib.h>
    static void *viva_pass(void *gate) {
        pthread_mutex_lock((pthread_mutex_t *)gate);
        pthread_mutex_unlock((pthread_mutex_t *)gate);
        return NULL;
    }
    /* All exist at once, like the threads of the team. */
    static int viva_can_start(int more, int threads) {
        pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
        void *room = malloc(8192 + 1024 * (size_t)threads);
        pthread_t *started = (pthread_t *)malloc((more > 0 ? more : 1) * sizeof(pthread_t));
        int count = 0;
        if (room != NULL && started != NULL) {
            pthread_mutex_lock(&gate);
            while (count < more && pthread_create(&started[count], NULL, viva_pass, &gate) == 0) count++;
            pthread_mutex_unlock(&gate);
            for (int i = 0; i < count; i++) pthread_join(started[i], NULL);
        } else
            count = -1;
        free(started);
        free(room);
        return count >= more;
    }
    #define viva_at_fork(before, in_child) pthread_atfork(before, NULL, in_child)
    #else
    #define viva_can_start(more, threads) 1
    #define viva_at_fork(before, in_child) 0
    #endif
    """
    # whether so many more threads, and the memory of a team of so many threads, are available now
    bint can_start "viva_can_start" (int more, int threads)
    int at_fork "viva_at_fork" (void (*before)() noexcept nogil, void (*in_child)() noexcept nogil)
