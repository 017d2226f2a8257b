// What every fuzz target needs. These files belong to no package target: Scripts/fuzz.sh builds each `Fuzz*` entry
// with the modules it imports, all instrumented.

import Base

/// Stops the run when something that must always hold does not.
func require(_ condition: Bool, _ broken: StaticString) {
  if !condition { preconditionFailure("broken: \(broken)") }
}

/// Copies `bytes` to a block of exactly their size, so that AddressSanitizer sees a read past their end.
func exactly<Result>(_ bytes: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Result) -> Result {
  let block = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
  defer { block.deallocate() }
  block.copyMemory(from: bytes)
  return body(UnsafeRawBufferPointer(block))
}

/// The input without its first byte, and that byte, which steers the target.
func steered(_ data: UnsafePointer<UInt8>?, _ size: Int) -> (steer: Int, bytes: UnsafeRawBufferPointer)? {
  guard let data, size > 0 else { return nil }
  return (Int(data[0]), UnsafeRawBufferPointer(start: data + 1, count: size - 1))
}
