// Instruction counters for dynamo-bench: perf_event_open has no C library wrapper and Swift refuses variadic syscall().
#define _GNU_SOURCE
#include "CSystem.h"

#include <linux/perf_event.h>
#include <string.h>
#include <sys/syscall.h>

int csystem_perf_open_instructions(int thread, int user) {
  struct perf_event_attr attr;
  memset(&attr, 0, sizeof(attr));
  attr.type = PERF_TYPE_HARDWARE;
  attr.size = sizeof(attr);
  attr.config = PERF_COUNT_HW_INSTRUCTIONS;
  attr.inherit = 1;
  attr.exclude_hv = 1;
  attr.exclude_user = user ? 0 : 1;
  attr.exclude_kernel = user ? 1 : 0;
  return (int)syscall(SYS_perf_event_open, &attr, thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
}
