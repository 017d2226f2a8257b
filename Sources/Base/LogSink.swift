// The door through which finished log lines leave the rooms that write them.

/// Takes finished log lines. Implemented by the writer thread in EventLoop and by tests.
package protocol LogSink: AnyObject, Sendable {
  /// Takes one or more whole lines, each with its newline, from any thread; copies them and never blocks.
  func write(_ lines: UnsafeRawBufferPointer)
}
