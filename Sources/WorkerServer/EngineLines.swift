// The engine's output cut into lines, for the worker's own log.

internal import Base
internal import Logging

/// Cuts bytes into lines. A progress bar's carriage return ends a line too.
///
/// Invariant: no more than ``lineBytesMax`` bytes wait for their line's end.
struct EngineLines {
  /// Of a longer line the rest is dropped, and the line ends in an ellipsis.
  static let lineBytesMax = 4_096

  private var line: [UInt8] = []
  private var isCut = false

  /// Calls `told` with each line that `bytes` complete; empty ones are left out.
  mutating func receive(_ bytes: UnsafeRawBufferPointer, _ told: (String) -> Void) {
    for byte in bytes {
      if byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r") {
        end(told)
      } else if line.count < Self.lineBytesMax {
        line.append(byte)
      } else {
        isCut = true
      }
    }
  }

  /// Nothing more comes: what waits is a line.
  mutating func end(_ told: (String) -> Void) {
    if !line.isEmpty { told(String(decoding: line, as: UTF8.self) + (isCut ? "…" : "")) }
    line.removeAll(keepingCapacity: true)
    isCut = false
  }

  /// What a line says of its weight: the level's name in capitals among its first words, as Python's loggers and
  /// llama-server write it, with or without brackets; else `info`.
  static func level(of line: String) -> Logger.Level {
    let words = line.prefix(80).split(whereSeparator: { !$0.isLetter })
    for word in words.prefix(4) {
      switch word {
      case "DEBUG", "TRACE": return .debug
      case "WARNING", "WARN": return .warning
      case "ERROR", "CRITICAL", "FATAL": return .error
      case "INFO": return .info
      default: continue
      }
    }
    return .info
  }
}
