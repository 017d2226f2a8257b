// Calls to an etcd cluster: one member at a time, the next one when it fails, with a token where there is a user.

internal import Base
internal import EventLoop
internal import JSON

/// Why a call came to nothing.
struct EtcdFailure: Error, Equatable {
  let reason: String
  /// The revision asked for is compacted.
  var isCompacted = false
  /// The lease asked for is not there (any more).
  var isLeaseGone = false
}

/// Loop-confined. Nothing is told after ``close()``.
final class EtcdClient {
  private let settings: EtcdSettings
  private let connector: any APIConnector
  private(set) var server: Int
  private var token: String?
  private var isClosed = false
  private var watching: (any APICall)?
  /// Counts watches that were given up: one that still waits for its token is not begun.
  private var abandoned = 0

  /// - Parameter first: the member to begin with, so that a fleet does not crowd onto one.
  init(_ settings: EtcdSettings, connector: any APIConnector, first: UInt64) {
    self.settings = settings
    self.connector = connector
    server = Int(first % UInt64(connector.serverCount))
  }

  /// The member in use, as the settings name it.
  var serverName: String { settings.endpoints.indices.contains(server) ? settings.endpoints[server] : "etcd" }

  /// The next call goes to another member, with a token of its own.
  func rotate() {
    server = (server + 1) % connector.serverCount
    token = nil
  }

  /// Ends the watch, if there is one.
  func abandon() {
    abandoned += 1
    watching?.cancel()
    watching = nil
  }

  func close() {
    isClosed = true
    connector.close()
  }

  /// Asks; `done` is never called from inside.
  func call(
    _ path: String, _ body: String, _ done: @escaping (Result<JSONValue, EtcdFailure>) -> Void
  ) {
    authorized { [weak self] failure, isFresh in
      guard let self else { return }
      if let failure { return done(.failure(failure)) }
      send(path, body) { [weak self] outcome in
        guard let self, !isClosed else { return }
        // A token may have ended long ago; one that was just given out has not.
        if Self.isUnauthorized(outcome), token != nil, !isFresh {
          token = nil
          call(path, body, done)
        } else {
          done(Self.result(outcome))
        }
      }
    }
  }

  /// Watches; `lines` hears of each message and `done` of the end.
  func watch(
    _ body: String, lines: @escaping (UnsafeRawBufferPointer) -> Void, _ done: @escaping (EtcdFailure) -> Void
  ) {
    let abandoned = abandoned
    authorized { [weak self] failure, _ in
      guard let self, abandoned == self.abandoned else { return }
      if let failure { return done(failure) }
      let heard: (UnsafeRawBufferPointer) -> Void = { [weak self] line in
        if self?.isClosed == false { lines(line) }
      }
      watching = connector.send(request("/v3/watch", body), to: server, lines: heard) { [weak self] outcome in
        guard let self, !isClosed else { return }
        watching = nil
        if Self.isUnauthorized(outcome) { token = nil }
        if case .answered(200, let rest) = outcome, rest.isEmpty {
          return done(EtcdFailure(reason: "it ended the watch"))
        }
        switch Self.result(outcome) {
        case .success: done(EtcdFailure(reason: "it ended the watch"))
        case .failure(let failure): done(failure)
        }
      }
    }
  }

  // MARK: One request

  private func request(_ path: String, _ body: String) -> APIRequest {
    APIRequest(path: path, headers: token.map { [("authorization", $0)] } ?? [], body: body)
  }

  private func send(_ path: String, _ body: String, _ done: @escaping (APIOutcome) -> Void) {
    _ = connector.send(request(path, body), to: server, lines: nil, done)
  }

  /// Gets a token where one is needed. The second argument says that it was given out for this call.
  private func authorized(_ next: @escaping (EtcdFailure?, _ isFresh: Bool) -> Void) {
    guard !isClosed else { return }
    guard token == nil, let name = settings.username, let password = settings.password else {
      return next(nil, false)
    }
    let body = EtcdRequest.authenticate(name, password)
    _ = connector.send(APIRequest(path: "/v3/auth/authenticate", body: body), to: server, lines: nil) {
      [weak self] outcome in
      guard let self, !isClosed else { return }
      switch Self.result(outcome) {
      case .success(let answer):
        guard let token = answer["token"]?.string, !token.isEmpty,
          token.utf8.allSatisfy({ (0x21...0x7e).contains($0) })
        else { return next(EtcdFailure(reason: "it gave no token"), true) }
        self.token = token
        next(nil, true)
      case .failure(let failure):
        next(EtcdFailure(reason: "authenticate: \(failure.reason)"), true)
      }
    }
  }

  // MARK: Answers

  private static func isUnauthorized(_ outcome: APIOutcome) -> Bool {
    guard case .answered(let status, let body) = outcome, status != 200 else { return false }
    // Members before 3.4.10 give status 400 for a token that ended.
    return status == 401 || String(decoding: body, as: UTF8.self).contains("invalid auth token")
  }

  private static func result(_ outcome: APIOutcome) -> Result<JSONValue, EtcdFailure> {
    switch outcome {
    case .failed(let reason): return .failure(EtcdFailure(reason: reason))
    case .answered(let status, let body):
      let answer = body.withUnsafeBytes { EtcdAnswer.parse($0) }
      if status == 200, let answer, answer["error"] == nil { return .success(answer) }
      // A stream of one message, as a keep-alive, has its error inside a 200.
      let message = (answer?["error"]?["message"] ?? answer?["message"] ?? answer?["error"])?.string
      return .failure(
        EtcdFailure(
          reason: message.map { String($0.prefix(200)) } ?? "it answered with status \(status)",
          isCompacted: message?.contains("revision has been compacted") ?? false,
          isLeaseGone: message?.contains("lease not found") ?? false))
    }
  }
}
