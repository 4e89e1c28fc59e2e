/* Teams of threads that nobody has to wait for unless they have work in hand.
 *
 * A region is a number of phases, each of as many lanes as its team has threads. A lane of a phase is done by whoever
 * claims it: the thread of that number as a rule, and another one that has nothing left to do if that thread has not
 * come, because the system runs something else on its processor. A phase begins when all lanes of the one before are
 * done. So a thread that the system has stopped holds up the others only in the middle of a lane, and who computes a
 * lane does not change what it computes.
 *
 * Phases are numbered on from region to region. For each lane there is the last phase that was claimed and the last one
 * that was done. Claiming is a compare-and-swap from the phase before, which fails if somebody else has done so, and in
 * particular if the region is over: a thread that comes late, with what it has read of an earlier region, can touch
 * nothing. It reads `last` before everything else of a region, and the caller writes it after everything else.
 *
 * Who waits spins for about as long as sleeping and being woken takes, then sleeps on the number that will change.
 */

#include "clock.h"
#include "pace.h"

#if defined(_WIN32) || !defined(__GNUC__)
#define VIVA_TEAMS 0
#else
#define VIVA_TEAMS 1
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <sched.h>
#endif
#endif

typedef void (*viva_work)(const void *work, int phase, int lane, int lanes);

#define VIVA_WINDOW 0.01 /* seconds over which times are averaged: some turns of the system's scheduler */
#define VIVA_LEAST_WAIT 0.02
#define VIVA_MOST_WAIT 0.64

/* Choose how many threads the next regions get, after one that took from `begin` until `now`.
 *
 * On a machine that other programs use, a region may be done sooner with fewer threads, since any of them may be
 * stopped with a lane in hand. Half as many are tried at first, and when regions take a quarter longer than the fastest
 * of late; twice as many after a while with fewer. The number with the lower average stays. After each trial in vain
 * the next one waits twice as long. The bits are the same. */
static void viva_keep_pace(viva_pace *pace, int lanes, double begin, double now) {
    double taken = now - begin, average;
    int threads = pace->threads ? pace->threads : lanes;
    if (pace->regions == 0) pace->since = begin, pace->total = 0;
    pace->regions++;
    pace->total += taken;
    if (pace->least == 0 || taken < pace->least) pace->least = taken;
    if (now - pace->since < VIVA_WINDOW) return;
    average = pace->total / pace->regions;
    pace->regions = 0;
    if (pace->trial) {
        if (average < 0.95 * pace->average) {
            pace->threads = pace->trial;
            pace->average = average;
            pace->wait = VIVA_LEAST_WAIT;
        } else
            pace->wait = pace->wait * 2 < VIVA_MOST_WAIT ? pace->wait * 2 : VIVA_MOST_WAIT;
        pace->trial = 0;
        pace->next = now + pace->wait;
        return;
    }
    pace->average = average;
    if (now < pace->next) return;
    if (threads < lanes)
        pace->trial = 2 * threads < lanes ? 2 * threads : lanes;
    else if (pace->wait == 0 || average > 1.25 * pace->least)
        pace->trial = threads / 2;
    if (pace->wait == 0) pace->wait = VIVA_LEAST_WAIT;
    pace->least *= 1.01; /* what was long ago counts less */
}

/* How many threads take part in the next region. */
static int viva_taking_part(const viva_pace *pace, int lanes) {
    return pace->trial ? pace->trial : pace->threads ? pace->threads : lanes;
}

/* Do every lane of every phase on the calling thread alone. */
static void viva_run_alone(viva_work work, const void *args, int phases, int lanes) {
    for (int phase = 0; phase < phases; phase++)
        for (int lane = 0; lane < lanes; lane++) work(args, phase, lane, lanes);
}

#if VIVA_TEAMS

#define VIVA_PATIENCE 4e-5     /* seconds of spinning: about what sleeping and being woken costs */
#define VIVA_WORTH_WAKING 1e-4 /* seconds of one thread's work from which waking others for it pays */
#if defined(__x86_64__) || defined(__i386__)
#define viva_pause() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define viva_pause() __asm__ volatile("yield")
#else
#define viva_pause() ((void)0)
#endif

/* What different threads write lies 128 bytes apart: a cache line, and the one fetched beside it. */
#define VIVA_APART __attribute__((aligned(128)))

typedef struct {
    VIVA_APART unsigned claimed;
    VIVA_APART unsigned done;
    unsigned sleepers; /* threads that sleep until `done` changes */
} viva_lane;

typedef struct { /* each is called by itself: a region wakes no thread that takes no part in it */
    VIVA_APART unsigned last; /* phase of the region that it was last called to */
    unsigned sleepers;
    pthread_t thread;
    struct viva_team *team;
    int number; /* of its lane */
} viva_worker;

typedef struct viva_team {
    viva_work work;
    const void *args;
    unsigned base, last; /* phases: the last one before the region, and of it */
    int lanes;
    int workers, stop; /* threads beside the caller's */
    viva_worker *worker;
    viva_lane *lane;
} viva_team;

static inline void viva_sleep(unsigned *number, unsigned seen) {
#if defined(__linux__)
    syscall(SYS_futex, number, FUTEX_WAIT_PRIVATE, seen, NULL);
#else
    (void)number, (void)seen;
    sched_yield();
#endif
}

static inline void viva_wake(unsigned *number, int threads) {
#if defined(__linux__)
    syscall(SYS_futex, number, FUTEX_WAKE_PRIVATE, threads);
#else
    (void)number, (void)threads;
#endif
}

static inline int viva_before(unsigned a, unsigned b) { return (int)(a - b) < 0; }

/* Set a number and wake who sleeps until then. A sleeper counts itself before it looks at the number once more. */
static inline void viva_publish(unsigned *number, unsigned value, unsigned *sleepers) {
    __atomic_store_n(number, value, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(sleepers, __ATOMIC_SEQ_CST)) viva_wake(number, INT_MAX);
}

static inline void viva_await(unsigned *number, unsigned seen, unsigned *sleepers) {
    for (int i = 0; i < 64; i++) /* most waits are shorter than it takes to read a clock */
        if (__atomic_load_n(number, __ATOMIC_ACQUIRE) != seen) return;
    for (double end = viva_seconds() + VIVA_PATIENCE; viva_seconds() < end;)
        for (int i = 0; i < 16; i++) {
            if (__atomic_load_n(number, __ATOMIC_ACQUIRE) != seen) return;
            viva_pause();
        }
    __atomic_fetch_add(sleepers, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(number, __ATOMIC_SEQ_CST) == seen) viva_sleep(number, seen);
    __atomic_fetch_sub(sleepers, 1, __ATOMIC_SEQ_CST);
}

static inline int viva_claim(viva_lane *lane, unsigned phase) {
    unsigned before = phase - 1;
    return __atomic_load_n(&lane->claimed, __ATOMIC_RELAXED) == before
        && __atomic_compare_exchange_n(&lane->claimed, &before, phase, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Take part in a region from a phase on: the lane of one's own number first, then what others have not claimed. */
static void viva_take_part(viva_team *team, int number, viva_work work, const void *args, unsigned base, int lanes,
                           unsigned phase, unsigned last) {
    for (; !viva_before(last, phase); phase++) {
        for (int i = 0, lane = number; i < lanes; i++, lane = lane + 1 < lanes ? lane + 1 : 0)
            if (viva_claim(&team->lane[lane], phase)) {
                work(args, (int)(phase - base - 1), lane, lanes);
                viva_publish(&team->lane[lane].done, phase, &team->lane[lane].sleepers);
            }
        for (int i = 0; i < lanes; i++) {
            unsigned *done = &team->lane[i].done, seen;
            while (viva_before(seen = __atomic_load_n(done, __ATOMIC_ACQUIRE), phase))
                viva_await(done, seen, &team->lane[i].sleepers);
        }
    }
}

/* It allocates and frees nothing: the C library would reserve 64 MiB of addresses for each thread that does. */
static void *viva_attend(void *packed) {
    viva_worker *self = packed;
    viva_team *team = self->team;
    unsigned last = 0;
    for (;;) {
        unsigned before = last;
        viva_await(&self->last, last, &self->sleepers);
        last = __atomic_load_n(&self->last, __ATOMIC_ACQUIRE);
        if (last == before) continue; /* woken for nothing */
        if (__atomic_load_n(&team->stop, __ATOMIC_ACQUIRE)) return NULL;
        int lanes = __atomic_load_n(&team->lanes, __ATOMIC_ACQUIRE);
        viva_work work = __atomic_load_n(&team->work, __ATOMIC_RELAXED);
        const void *args = __atomic_load_n(&team->args, __ATOMIC_RELAXED);
        unsigned base = __atomic_load_n(&team->base, __ATOMIC_RELAXED), phase = last;
        for (int i = 0; i < lanes; i++) {
            unsigned done = __atomic_load_n(&team->lane[i].done, __ATOMIC_ACQUIRE);
            if (viva_before(done, phase)) phase = done;
        }
        viva_take_part(team, self->number, work, args, base, lanes, phase + 1, last);
    }
}

/* Call the first so many workers to a region that ends with the phase `last`: all numbers are written first, so that
 * the cache lines travel at the same time. */
static void viva_call(viva_team *team, int workers, unsigned last) {
    for (int i = 0; i < workers; i++) __atomic_store_n(&team->worker[i].last, last, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (int i = 0; i < workers; i++)
        if (__atomic_load_n(&team->worker[i].sleepers, __ATOMIC_SEQ_CST)) viva_wake(&team->worker[i].last, 1);
}

static void viva_end_team(void *packed) {
    viva_team *team = packed;
    __atomic_store_n(&team->stop, 1, __ATOMIC_RELEASE);
    viva_call(team, team->workers, team->last + 1);
    for (int i = 0; i < team->workers; i++) pthread_join(team->worker[i].thread, NULL);
    free(team->lane);
    free(team);
}

/* A team with a thread for each of so many lanes, the caller's for the first; NULL if they cannot be had. */
static viva_team *viva_new_team(int lanes) {
    viva_team *team = calloc(1, sizeof(viva_team));
    void *memory = NULL;
    sigset_t all, before;
    if (team == NULL) return NULL;
    if (posix_memalign(&memory, 128, lanes * (sizeof(viva_lane) + sizeof(viva_worker)))) {
        free(team);
        return NULL;
    }
    team->lane = memset(memory, 0, lanes * (sizeof(viva_lane) + sizeof(viva_worker)));
    team->worker = (viva_worker *)(team->lane + lanes);
    sigfillset(&all); /* signals are for the threads of the program */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (team->workers < lanes - 1) {
        viva_worker *worker = &team->worker[team->workers];
        worker->team = team, worker->number = team->workers + 1;
        if (pthread_create(&worker->thread, NULL, viva_attend, worker)) break;
        team->workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (team->workers == lanes - 1) return team;
    viva_end_team(team);
    return NULL;
}

static _Thread_local viva_team *viva_own_team = NULL;
static _Thread_local double viva_last_end = 0; /* of a region that this thread called */
static pthread_key_t viva_ending; /* ends the team of a thread that ends */

static void viva_forget_team(void) { /* in a forked child, which has none of its threads */
    viva_own_team = NULL;
    pthread_setspecific(viva_ending, NULL);
}

static int viva_prepare_teams(void) {
    return pthread_key_create(&viva_ending, viva_end_team) || pthread_atfork(NULL, NULL, viva_forget_team);
}

static void viva_run_region(viva_team *team, viva_work work, const void *args, int phases, int lanes, int threads) {
    unsigned base = team->last;
    for (int i = 0; i < lanes; i++) {
        __atomic_store_n(&team->lane[i].claimed, base, __ATOMIC_RELAXED);
        __atomic_store_n(&team->lane[i].done, base, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&team->work, work, __ATOMIC_RELAXED);
    __atomic_store_n(&team->args, args, __ATOMIC_RELAXED);
    __atomic_store_n(&team->base, base, __ATOMIC_RELAXED);
    __atomic_store_n(&team->lanes, lanes, __ATOMIC_RELEASE);
    team->last = base + phases;
    viva_call(team, threads - 1, team->last);
    viva_take_part(team, 0, work, args, base, lanes, base + 1, base + phases);
}

/* Do every lane of every phase on a team of so many threads, of which at most `most` take part, and fewer by the pace
 * of the region if it has one. A region that is expected to take one thread so many `seconds` (0: unknown) may be too
 * brief to wake threads for, which sleep after a pause: then the caller does it alone. False if some threads could not
 * be started. */
static int viva_run_team(viva_work work, const void *args, int phases, int lanes, int most, double seconds,
                         viva_pace *pace) {
    double begin = viva_seconds();
    int threads = pace ? viva_taking_part(pace, most) : most;
    if (pace) seconds = pace->average * threads;
    if (0 < seconds && seconds < VIVA_WORTH_WAKING && begin - viva_last_end > VIVA_PATIENCE) {
        viva_run_alone(work, args, phases, lanes);
        viva_last_end = viva_seconds();
        return 1;
    }
    if (threads == 1)
        viva_run_alone(work, args, phases, lanes);
    else {
        if (viva_own_team == NULL || viva_own_team->workers + 1 < lanes) {
            if (viva_own_team != NULL) viva_end_team(viva_own_team);
            viva_own_team = viva_new_team(lanes);
            pthread_setspecific(viva_ending, viva_own_team);
            if (viva_own_team == NULL) return 0;
        }
        viva_run_region(viva_own_team, work, args, phases, lanes, threads);
    }
    viva_last_end = viva_seconds();
    if (pace) viva_keep_pace(pace, most, begin, viva_last_end);
    return 1;
}

#else

static int viva_prepare_teams(void) { return 0; }

static int viva_run_team(viva_work work, const void *args, int phases, int lanes, int most, double seconds,
                         viva_pace *pace) {
    (void)most, (void)seconds, (void)pace;
#ifdef _OPENMP
    for (int phase = 0; phase < phases; phase++) {
        int lane;
        #pragma omp parallel for num_threads(lanes)
        for (lane = 0; lane < lanes; lane++) work(args, phase, lane, lanes);
    }
#else
    viva_run_alone(work, args, phases, lanes);
#endif
    return 1;
}

#endif
