// System calls and constants that the Glibc module hides from Swift: epoll, eventfd, signalfd, accept4 and friends.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static inline int csystem_errno(void) { return errno; }

/// accept4 with SOCK_NONBLOCK and SOCK_CLOEXEC; needs _GNU_SOURCE, hence the .c file.
int csystem_accept4(int fd);

/// Names the calling thread (15 bytes at most).
void csystem_set_thread_name(const char *name);

/// Number of processors the calling process may run on, or 0 when that cannot be told.
int csystem_affinity_count(void);

/// Lets go of the pages of code and constants that were read so far, of the program and of its libraries: they are
/// copies of files, and what is used again comes back from the page cache. What the loader or the program has written
/// stays.
void csystem_release_code_pages(void);

/// CLOCK_MONOTONIC in nanoseconds.
static inline uint64_t csystem_monotonic_nanoseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/// CLOCK_REALTIME in nanoseconds since the Unix epoch.
static inline uint64_t csystem_wall_nanoseconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/// Opens a counter of instructions retired by `thread` and the threads it starts later, in user code (`user` != 0) or in
/// the kernel; -1 with errno where the processor, the virtual machine or perf_event_paranoid does not allow it.
int csystem_perf_open_instructions(int thread, int user);

// glibc hides this one behind _GNU_SOURCE, which the importer does not set.
void *memmem(const void *haystack, size_t haystack_bytes, const void *needle, size_t needle_bytes);

/// Offset of the first occurrence of `needle` in [p, p + n); -1 if there is none.
static inline long csystem_find(const void *p, size_t n, const void *needle, size_t needle_bytes) {
  const void *hit = memmem(p, n, needle, needle_bytes);
  return hit ? (const char *)hit - (const char *)p : -1;
}

/// Sends `count` bytes as one message over a Unix socket, with `descriptor_count` descriptors beside them, and waits for
/// nothing. 0, or the negated errno.
int csystem_send_descriptors(int fd, const void *bytes, size_t count, const int *descriptors, int descriptor_count);

/// Receives one message of at most `count` bytes, and up to `*descriptor_count` descriptors (close-on-exec) with it;
/// what is too many is closed. The bytes' number, or the negated errno.
long csystem_receive_descriptors(int fd, void *bytes, size_t count, int *descriptors, int *descriptor_count);

/// The user behind the other end of a Unix socket, or -1.
long csystem_peer_user(int fd);
