// Requests to the API of a discovery service, and how they are answered. A test plays the service.

internal import HTTP

/// One request.
struct APIRequest {
  var method = HTTP.Method.post
  /// With its query.
  var path: String
  /// Names in lower case; values of visible ASCII.
  var headers: [(name: String, value: String)] = []
  /// JSON; nil for none.
  var body: String?
}

/// How a request ended.
enum APIOutcome {
  /// The body is what no line handler took.
  case answered(status: Int, body: [UInt8])
  /// No answer, or half of one.
  case failed(String)
}

/// Sends requests to the servers of a service. Loop-confined.
protocol APIConnector: AnyObject {
  /// How many servers there are, at least one.
  var serverCount: Int { get }
  /// Asks the server with index `server`. With `lines` the body of a 200 goes there, line by line as it comes (bytes
  /// valid during the call), for as long as it may take. `done` is called once, never from inside, and not after a cancel.
  func send(
    _ request: APIRequest, to server: Int, lines: ((UnsafeRawBufferPointer) -> Void)?,
    _ done: @escaping (APIOutcome) -> Void
  ) -> any APICall
  /// Cancels everything.
  func close()
}

/// A request under way.
protocol APICall: AnyObject {
  /// Ends it; nothing more is told.
  func cancel()
}

/// Waits between attempts: from a quarter of a second, doubled with each failure, to eight; of each time between a half and
/// the whole is taken, so that a fleet that lost its service together does not come back to it together.
struct APIBackoff {
  private var failures = 0

  mutating func next(_ random: inout some RandomNumberGenerator) -> UInt64 {
    let longest: UInt64 = 250_000_000 << UInt64(min(failures, 5))
    failures += 1
    return longest / 2 + random.next() % (longest / 2)
  }

  mutating func reset() { failures = 0 }
}
