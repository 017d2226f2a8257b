// Tells ThreadSanitizer of the contended half of Swift's Mutex. Linked by Scripts/test.sh's tsan stage alone.
//
// Mutex takes and gives a free lock by atomics that are compiled into the caller, where ThreadSanitizer sees them. When
// two threads meet, the lock passes through a futex inside libswiftSynchronization, which is not instrumented: whatever
// the mutex guards then looks like a race. These three functions stand before that library's and add the missing
// acquire and release on the same address. No report is suppressed. Were they renamed in another toolchain, nothing
// would call these, and the false reports would be back.
#define _GNU_SOURCE
#include "MutexAnnotations.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>

#define LOCK_SLOW "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define TRY_LOCK_SLOW "$s15Synchronization12_MutexHandleV12_tryLockSlowSbyF"
#define UNLOCK_SLOW "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context)) void *

// Of the sanitizer's runtime (sanitizer/tsan_interface.h).
void __tsan_acquire(void *address);
void __tsan_release(void *address);

typedef SWIFT void (*LockSlow)(uint32_t thread, SELF handle);
typedef SWIFT bool (*TryLockSlow)(SELF handle);
typedef SWIFT void (*UnlockSlow)(SELF handle);

SWIFT void mutex_lock_slow(uint32_t thread, SELF handle) __asm__(LOCK_SLOW);
SWIFT bool mutex_try_lock_slow(SELF handle) __asm__(TRY_LOCK_SLOW);
SWIFT void mutex_unlock_slow(SELF handle) __asm__(UNLOCK_SLOW);

SWIFT void mutex_lock_slow(uint32_t thread, SELF handle) {
  ((LockSlow)dlsym(RTLD_NEXT, LOCK_SLOW))(thread, handle);
  __tsan_acquire(handle);
}

SWIFT bool mutex_try_lock_slow(SELF handle) {
  bool taken = ((TryLockSlow)dlsym(RTLD_NEXT, TRY_LOCK_SLOW))(handle);
  if (taken) __tsan_acquire(handle);
  return taken;
}

SWIFT void mutex_unlock_slow(SELF handle) {
  __tsan_release(handle);
  ((UnlockSlow)dlsym(RTLD_NEXT, UNLOCK_SLOW))(handle);
}
