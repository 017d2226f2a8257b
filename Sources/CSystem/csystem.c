// The wrappers that need _GNU_SOURCE.
#define _GNU_SOURCE
#include "CSystem.h"

#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>

int csystem_accept4(int fd) { return accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC); }

void csystem_set_thread_name(const char *name) { pthread_setname_np(pthread_self(), name); }

int csystem_affinity_count(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 0;
  return CPU_COUNT(&set);
}

static int release_code_pages_of(struct dl_phdr_info *object, size_t size, void *unused) {
  (void)size;
  (void)unused;
  // The kernel's own object has a name that is no path. The program's name is empty.
  if (object->dlpi_name[0] != '/' && object->dlpi_name[0] != 0) return 0;
  const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
    // Relocations are written into writable segments alone, also those that the loader protects afterwards.
    if (segment->p_type != PT_LOAD || (segment->p_flags & PF_W)) continue;
    const uintptr_t from = object->dlpi_addr + segment->p_vaddr;
    const uintptr_t first = (from + page - 1) & ~(page - 1);
    const uintptr_t end = (from + segment->p_memsz) & ~(page - 1);
    if (end > first) madvise((void *)first, end - first, MADV_DONTNEED);
  }
  return 0;
}

void csystem_release_code_pages(void) { dl_iterate_phdr(release_code_pages_of, NULL); }
