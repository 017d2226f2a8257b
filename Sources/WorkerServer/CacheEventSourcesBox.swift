// What `GET /kv_event_sources` answers now.

internal import Synchronization
internal import Workers

/// The current answer, from any loop.
final class CacheEventSourcesBox: Sendable {
  private let state = Mutex<[CacheEventSource]>([])

  var value: [CacheEventSource] {
    get { state.withLock { $0 } }
    set { state.withLock { $0 = newValue } }
  }
}
