// What /proc tells of a process and its descendants: CPU time, resident memory, threads.

import Base
import CSystem
import Glibc

/// Numbers of one `/proc/PID/stat` line (proc_pid_stat(5)).
struct ProcessStat: Equatable {
  var parent: Int32
  var userTicks: Int
  var systemTicks: Int

  /// Reads the line; nil when it is not one. The name in brackets may hold blanks and brackets itself.
  static func parse(_ line: [UInt8]) -> ProcessStat? {
    guard let close = line.lastIndex(of: UInt8(ascii: ")")) else { return nil }
    let fields = line[(close + 1)...].split(whereSeparator: { $0 == 0x20 || $0 == 0x0a })
    func number(_ index: Int) -> Int? {
      index < fields.count ? Int(String(decoding: fields[index], as: UTF8.self)) : nil
    }
    // Fields 4, 14 and 15 of the page; the list here starts at field 3.
    guard let parent = number(1), let user = number(11), let system = number(12) else { return nil }
    return ProcessStat(parent: Int32(truncatingIfNeeded: parent), userTicks: user, systemTicks: system)
  }
}

/// CPU time that a process tree has spent.
struct CPUTime {
  /// Exact total from the processes' CPU clocks.
  var total: Nanoseconds = 0
  /// User and system parts as the kernel's statistics have them, in steps of 10 ms.
  var user: Nanoseconds = 0
  var system: Nanoseconds = 0

  static func - (after: CPUTime, before: CPUTime) -> CPUTime {
    func difference(_ a: UInt64, _ b: UInt64) -> UInt64 { a > b ? a - b : 0 }
    return CPUTime(
      total: difference(after.total, before.total), user: difference(after.user, before.user),
      system: difference(after.system, before.system))
  }
}

/// Resident memory of a process tree in bytes: now, and the sum of each process's highest.
struct ResidentMemory {
  var current = 0
  var highest = 0
}

/// A process and its descendants, looked up again at each question.
struct ProcessTree {
  let root: Int32

  /// Process ids, the root first; empty when the root is gone.
  var members: [Int32] {
    guard ProcessTree.stat(root) != nil else { return [] }
    var children: [Int32: [Int32]] = [:]
    for name in directoryEntries("/proc") {
      guard let process = Int32(name), let stat = ProcessTree.stat(process) else { continue }
      children[stat.parent, default: []].append(process)
    }
    var found = [root]
    var next = 0
    while next < found.count {
      found += children[found[next]] ?? []
      next += 1
    }
    return found
  }

  /// Thread ids of all members.
  var threads: [Int32] {
    members.flatMap { member in directoryEntries("/proc/\(member)/task").compactMap { Int32($0) } }
  }

  /// CPU time spent so far by the members that live.
  var cpuTime: CPUTime {
    let tick = second / UInt64(max(1, sysconf(Int32(_SC_CLK_TCK))))
    var result = CPUTime()
    for member in members {
      guard let stat = ProcessTree.stat(member) else { continue }
      result.user += UInt64(stat.userTicks) * tick
      result.system += UInt64(stat.systemTicks) * tick
      var clock = clockid_t()
      var time = timespec()
      if clock_getcpuclockid(member, &clock) == 0, clock_gettime(clock, &time) == 0 {
        result.total += UInt64(time.tv_sec) * second + UInt64(time.tv_nsec)
      } else {
        result.total += UInt64(stat.userTicks + stat.systemTicks) * tick
      }
    }
    return result
  }

  /// Resident memory of all members; pages that they share are counted in each, as `ps` does.
  var memory: ResidentMemory {
    var result = ResidentMemory()
    for member in members {
      guard let status = readFile("/proc/\(member)/status") else { continue }
      let text = String(decoding: status, as: UTF8.self)
      result.current += ProcessTree.kibibytes("VmRSS", in: text) * 1024
      result.highest += ProcessTree.kibibytes("VmHWM", in: text) * 1024
    }
    return result
  }

  /// The number of a line such as `VmRSS:     1234 kB` of `/proc/PID/status`, 0 when it is not there.
  static func kibibytes(_ name: String, in status: String) -> Int {
    for line in status.split(separator: "\n") where line.hasPrefix(name + ":") {
      return line.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap { Int($0) }
        ?? 0
    }
    return 0
  }

  private static func stat(_ process: Int32) -> ProcessStat? {
    readFile("/proc/\(process)/stat").flatMap(ProcessStat.parse)
  }
}
