// Instructions retired by a process tree, where the processor and the virtual machine count them.

import CSystem
import Glibc

/// Instructions retired in user code and in the kernel.
struct InstructionCount {
  var user: UInt64
  var kernel: UInt64
  var total: UInt64 { user + kernel }
}

/// Counters on every thread of a process tree as it stands at the start; threads and children that those start later
/// are included once they end or while they run (perf_event_open(2), `inherit`).
final class InstructionCounter {
  private var user: [Int32] = []
  private var kernel: [Int32] = []
  /// Why there are no figures, nil when there are.
  private(set) var unavailable: String?

  init(_ tree: ProcessTree) {
    var failure: String?
    for thread in tree.threads {
      let userCounter = csystem_perf_open_instructions(thread, 1)
      if userCounter < 0 {
        // A thread that ended in the meantime is no reason to give up.
        if csystem_errno() == ESRCH { continue }
        failure = String(cString: strerror(csystem_errno()))
        break
      }
      user.append(userCounter)
      let kernelCounter = csystem_perf_open_instructions(thread, 0)
      if kernelCounter < 0 {
        failure = String(cString: strerror(csystem_errno()))
        break
      }
      kernel.append(kernelCounter)
    }
    unavailable = failure ?? (user.isEmpty ? "no such process" : nil)
  }

  deinit {
    for descriptor in user + kernel { close(descriptor) }
  }

  /// Counts since the counters were opened; nil where they are not available.
  func read() -> InstructionCount? {
    guard unavailable == nil else { return nil }
    return InstructionCount(user: Self.sum(user), kernel: Self.sum(kernel))
  }

  private static func sum(_ descriptors: [Int32]) -> UInt64 {
    var total: UInt64 = 0
    for descriptor in descriptors {
      var value: UInt64 = 0
      if Glibc.read(descriptor, &value, 8) == 8 { total += value }
    }
    return total
  }
}
