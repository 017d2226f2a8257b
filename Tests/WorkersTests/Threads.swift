// Threads for tests. A file of its own: Foundation has a type of the same name.

import EventLoop

/// Runs `body` on a thread of its own.
func startThread(_ body: @escaping @Sendable () -> Void) throws {
  _ = try Thread(name: "test", body)
}
