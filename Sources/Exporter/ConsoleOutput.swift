// Lines for people, made of JSON lines on the writer's thread.

import Base
import EventLoop
import Telemetry

/// Turns JSON lines into readable ones before they are written.
final class ConsoleOutput: LineOutput {
  private let descriptor: DescriptorOutput
  private let isColoured: Bool

  init(descriptor: Int32 = 2, coloured: Bool) {
    self.descriptor = DescriptorOutput(descriptor)
    isColoured = coloured
  }

  func write(_ lines: inout ByteBuffer) -> Int {
    var out = ByteBuffer(capacity: lines.count * 2)
    LogLines.forEach(lines.readable) { line in
      out.append(readable: line, coloured: isColoured)
      out.append(UInt8(ascii: "\n"))
    }
    lines.removeAll()
    return descriptor.write(&out)
  }
}

/// Whole lines, one after the other.
enum LogLines {
  /// Gives each line of `text` without its newline.
  static func forEach(_ text: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Void) {
    var rest = text
    while !rest.isEmpty {
      let end = rest.firstIndex(of: UInt8(ascii: "\n")) ?? rest.endIndex
      body(UnsafeRawBufferPointer(rebasing: rest[rest.startIndex..<end]))
      rest = UnsafeRawBufferPointer(rebasing: rest[min(end + 1, rest.endIndex)...])
    }
  }
}
