// The wrappers that need _GNU_SOURCE.
#define _GNU_SOURCE
#include "CSystem.h"

#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
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

// Most descriptors of one message; the kernel's own bound is 253.
enum { descriptors_max = 64 };

int csystem_send_descriptors(int fd, const void *bytes, size_t count, const int *descriptors, int descriptor_count) {
  if (descriptor_count < 0 || descriptor_count > descriptors_max) return -EINVAL;
  union {
    char bytes[CMSG_SPACE(sizeof(int) * descriptors_max)];
    struct cmsghdr alignment;
  } control = {{0}};
  struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (descriptor_count > 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)descriptor_count);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)descriptor_count);
    memcpy(CMSG_DATA(header), descriptors, sizeof(int) * (size_t)descriptor_count);
  }
  for (;;) {
    if (sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return 0;
    if (errno != EINTR) return -errno;
  }
}

long csystem_receive_descriptors(int fd, void *bytes, size_t count, int *descriptors, int *descriptor_count) {
  const int room = *descriptor_count;
  *descriptor_count = 0;
  union {
    char bytes[CMSG_SPACE(sizeof(int) * descriptors_max)];
    struct cmsghdr alignment;
  } control;
  struct iovec part = {.iov_base = bytes, .iov_len = count};
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
  ssize_t received;
  do received = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  while (received < 0 && errno == EINTR);
  if (received < 0) return -errno;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t passed = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < passed; i++) {
      int descriptor;
      memcpy(&descriptor, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      if (*descriptor_count < room)
        descriptors[(*descriptor_count)++] = descriptor;
      else
        close(descriptor);
    }
  }
  return received;
}

long csystem_peer_user(int fd) {
  struct ucred peer;
  socklen_t length = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return -1;
  return (long)peer.uid;
}
