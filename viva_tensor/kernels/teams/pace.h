#ifndef VIVA_PACE_H
#define VIVA_PACE_H

/* The number of threads with which a region has lately been fastest; see team.h. All zeros at first. */
typedef struct {
    int threads;                 /* 0: as many as it has lanes */
    int trial;                   /* another number, which is being tried; 0: none */
    double since, total;         /* when the window began, and seconds of its regions */
    double least;                /* seconds of the fastest region of late */
    long regions;
    double average;              /* seconds of a region with `threads` */
    double next, wait;           /* when another number may be tried, and how long after that again */
} viva_pace;

#endif
