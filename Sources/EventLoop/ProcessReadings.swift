// What the kernel tells of this process, for metrics: read anew each time it is asked for.

internal import Base
internal import CSystem
internal import Glibc

/// Readings of the process by /proc (proc(5)) and getrusage(2). Each costs a system call or three, whatever the number of
/// descriptors or threads.
package enum ProcessReadings {
  /// Start of the process in nanoseconds since the Unix epoch; nil where /proc does not tell.
  package static var startNanoseconds: UInt64? {
    // The name, field 2, stands in parentheses and may hold anything; field 22 counts ticks since the machine's start.
    guard let text = contents(of: "/proc/self/stat"), let end = text.lastIndex(of: ")") else { return nil }
    let fields = text[end...].split(separator: " ")
    let ticksPerSecond = sysconf(Int32(_SC_CLK_TCK))
    guard fields.count > 20, let ticks = UInt64(fields[20]), ticksPerSecond > 0 else { return nil }
    let started = ticks * (second / UInt64(ticksPerSecond))
    var now = timespec()
    guard clock_gettime(CLOCK_BOOTTIME, &now) == 0 else { return nil }
    let uptime = UInt64(now.tv_sec) * second + UInt64(now.tv_nsec)
    return Machine.wallNanoseconds - (uptime > started ? uptime - started : 0)
  }

  /// User and system CPU time of all threads, in seconds.
  package static var cpuSeconds: Double {
    var usage = rusage()
    guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return 0 }
    return [usage.ru_utime, usage.ru_stime].reduce(0) { $0 + Double($1.tv_sec) + Double($1.tv_usec) / 1e6 }
  }

  /// Resident memory in bytes; nil where /proc does not tell.
  package static var residentBytes: Int? {
    guard let fields = contents(of: "/proc/self/statm")?.split(separator: " "), fields.count > 1 else {
      return nil
    }
    return Int(fields[1]).map { $0 * sysconf(Int32(_SC_PAGESIZE)) }
  }

  /// Open file descriptors; nil where the kernel does not tell (before Linux 6.2): counting them one by one would hold a
  /// loop up.
  package static var openDescriptors: Int? {
    var information = stat()
    guard stat("/proc/self/fd", &information) == 0, information.st_size > 0 else { return nil }
    return Int(information.st_size)
  }

  private static func contents(of path: String) -> String? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { _ = close(descriptor) }
    return withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 1) { bytes in
      let count = read(descriptor, bytes.baseAddress, bytes.count)
      return count > 0 ? UnsafeRawBufferPointer(bytes).slice(0..<count).text : nil
    }
  }
}
