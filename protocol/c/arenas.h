/* The memory of Python's small objects, in huge pages.
 *
 * The problem. Clients name keys in no order. So nearly each look-up of a record misses the caches of the processor, and also
 * its cache of page table entries (TLB): that has room for some thousand pages of 4 KiB, and 100,000 records take ten times as
 * many. A virtual machine walks two page tables for each miss.
 *
 * The idea. Python keeps objects of up to 512 bytes, which are nearly all, in arenas of 1 MiB that it takes from the system.
 * Here an arena is a part of one region, which Linux is asked to back by pages of 2 MiB (`madvise`). If Linux gives none, or
 * the region is full or cannot be had, everything is as without this file.
 *
 * An arena that Python gives back is emptied at once, so that the system gets the memory, and is used again before a new one.
 * Python holds the GIL whenever it calls these functions. An arena from before `use_huge_pages` goes back to where it came from.
 *
 * What larger objects and RocksDB take is the C library's, which does the same by a tunable that only the environment of a new
 * process can set (dynamo_cli/processes.py). */
#ifndef DYN_ARENAS_H
#define DYN_ARENAS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#define HUGE_PAGE_BYTES ((uintptr_t)2 << 20)
#define ARENA_BYTES ((uintptr_t)1 << 20)
#define ARENAS_MAX ((uintptr_t)1 << 16)  /* 64 GiB of addresses; memory is taken only where something is written */

static PyObjectArenaAllocator usual_arenas;
static uint8_t *region;                  /* where it begins; NULL: there is none */
static uintptr_t arenas_begun;           /* those before this one have been in use */
static uint16_t free_arenas[ARENAS_MAX]; /* the first `free_count` are the numbers of arenas that were given back */
static uintptr_t free_count;

static void *take_arena(void *Py_UNUSED(context), size_t size) {
    bool has_room = free_count || arenas_begun < ARENAS_MAX;
    if (size != ARENA_BYTES || !has_room) return usual_arenas.alloc(usual_arenas.ctx, size);
    return region + ARENA_BYTES * (free_count ? free_arenas[--free_count] : arenas_begun++);
}

static void give_arena_back(void *Py_UNUSED(context), void *arena, size_t size) {
    uintptr_t offset = (uintptr_t)arena - (uintptr_t)region;
    if (offset >= ARENA_BYTES * ARENAS_MAX) {
        usual_arenas.free(usual_arenas.ctx, arena, size);
        return;
    }
    madvise(arena, size, MADV_DONTNEED);
    free_arenas[free_count++] = (uint16_t)(offset / ARENA_BYTES);
}

PyDoc_STRVAR(use_huge_pages_doc,
    "From now on Python's new arenas are in huge pages. Returns whether they are. Call it once, when the process begins.");

static PyObject *use_huge_pages(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(nothing)) {
#ifdef MADV_HUGEPAGE
    size_t size = ARENA_BYTES * ARENAS_MAX + HUGE_PAGE_BYTES;
    if (region != NULL) Py_RETURN_TRUE;
    void *found = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) Py_RETURN_FALSE;
    if (madvise(found, size, MADV_HUGEPAGE)) {
        munmap(found, size);
        Py_RETURN_FALSE;
    }
    region = (uint8_t *)(((uintptr_t)found + HUGE_PAGE_BYTES - 1) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES);
    PyObject_GetArenaAllocator(&usual_arenas);
    PyObjectArenaAllocator ours = {NULL, take_arena, give_arena_back};
    PyObject_SetArenaAllocator(&ours);
    Py_RETURN_TRUE;
#else
    Py_RETURN_FALSE;
#endif
}

#endif
