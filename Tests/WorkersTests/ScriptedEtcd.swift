// An etcd cluster in memory, spoken to as its JSON gateway is: keys, leases, watches, users; members that fail.

import Base
import Foundation
import Testing

@testable import Workers

final class ScriptedEtcd: APIConnector {
  private final class Call: APICall {
    var isCancelled = false

    func cancel() { isCancelled = true }
  }

  private struct Watcher {
    let call: Call
    let server: Int
    let from: String
    let end: String
    let lines: (UnsafeRawBufferPointer) -> Void
    let done: (APIOutcome) -> Void
  }

  struct Asked {
    let path: String
    let server: Int
    let body: [String: Any]
  }

  var serverCount: Int { servers }
  private let servers: Int
  /// Members that refuse connections.
  var down: Set<Int> = []
  /// Who may ask; nil for everybody.
  var user: (name: String, password: String)?
  private(set) var tokens: Set<String> = []
  private(set) var asked: [Asked] = []
  private(set) var keys: [String: (value: String, lease: String?)] = [:]
  private(set) var leases: Set<String> = []
  private(set) var isClosed = false
  private var revision = 1
  private var compacted = 0
  private var watchers: [Watcher] = []
  private var pending: [() -> Void] = []
  private var given = 0

  init(servers: Int = 1) { self.servers = servers }

  func send(
    _ request: APIRequest, to server: Int, lines: ((UnsafeRawBufferPointer) -> Void)?,
    _ done: @escaping (APIOutcome) -> Void
  ) -> any APICall {
    let call = Call()
    let token = request.headers.first { $0.name == "authorization" }?.value
    pending.append { [self] in
      guard !call.isCancelled else { return }
      let body = (try? JSONSerialization.jsonObject(with: Data((request.body ?? "").utf8))) as? [String: Any]
      guard let body else { return done(.answered(status: 400, body: Array("{}".utf8))) }
      asked.append(Asked(path: request.path, server: server, body: body))
      guard !down.contains(server) else { return done(.failed("connect: Connection refused")) }
      if request.path == "/v3/auth/authenticate" { return done(authenticate(body)) }
      if user != nil, token.map({ tokens.contains($0) }) != true {
        return done(error(401, "etcdserver: invalid auth token"))
      }
      if let lines, request.path == "/v3/watch" {
        watch(body, Watcher(call: call, server: server, from: "", end: "", lines: lines, done: done))
      } else {
        done(answer(request.path, body))
      }
    }
    return call
  }

  func close() { isClosed = true }

  /// Lets everything that was asked be answered, in order, and what that leads to.
  func settle(_ rig: (() -> Void)? = nil) {
    rig?()
    while !pending.isEmpty {
      pending.removeFirst()()
      rig?()
    }
  }

  /// Answers one request, if there is one.
  func step() { if !pending.isEmpty { pending.removeFirst()() } }

  // MARK: What a test does to it

  func put(_ key: String, _ value: String, lease: String? = nil) {
    revision += 1
    keys[key] = (value, lease)
    tell([["kv": kv(key)]], [key])
  }

  func delete(_ names: [String]) {
    revision += 1
    for key in names { keys[key] = nil }
    tell(names.map { ["type": "DELETE", "kv": ["key": base64($0), "mod_revision": "\(revision)"]] }, names)
  }

  /// Forgets history, and ends watches as members do that cannot go on with them.
  func compact(endingWatches: Bool) {
    revision += 1
    compacted = revision
    guard endingWatches else { return }
    for watcher in takeWatchers() {
      line(["result": ["canceled": true, "compact_revision": "\(compacted)"]], to: watcher)
    }
  }

  /// The connections of watches break.
  func breakWatches(_ reason: String = "it closed the connection") {
    for watcher in takeWatchers() { watcher.done(.failed(reason)) }
  }

  /// A member says this to all that watch.
  func say(_ text: String) {
    for watcher in watchers where !watcher.call.isCancelled {
      text.utf8.withContiguousStorageIfAvailable { watcher.lines(UnsafeRawBufferPointer($0)) }
    }
  }

  func expire(_ lease: String) {
    leases.remove(lease)
    delete(keys.filter { $0.value.lease == lease }.map(\.key).sorted())
  }

  func endTokens() { tokens = [] }

  var watchCount: Int { watchers.filter { !$0.call.isCancelled }.count }

  private func takeWatchers() -> [Watcher] {
    defer { watchers = [] }
    return watchers.filter { !$0.call.isCancelled }
  }

  // MARK: Answers

  private func answer(_ path: String, _ body: [String: Any]) -> APIOutcome {
    switch path {
    case "/v3/kv/range": return range(body)
    case "/v3/lease/grant":
      given += 1
      leases.insert("\(7_000 + given)")
      return ok(["ID": "\(7_000 + given)", "TTL": body["TTL"] ?? ""])
    case "/v3/lease/keepalive":
      let id = body["ID"] as? String ?? ""
      return ok(["result": leases.contains(id) ? ["ID": id, "TTL": "10"] : ["ID": id]])
    case "/v3/lease/revoke":
      let id = body["ID"] as? String ?? ""
      guard leases.contains(id) else { return error(404, "etcdserver: requested lease not found") }
      expire(id)
      return ok([:])
    case "/v3/kv/txn":
      // What is compared here is whether keys are there.
      let compares = body["compare"] as? [[String: String]] ?? []
      let holds = compares.allSatisfy { keys[text($0["key"])] != nil }
      for entry in body[holds ? "success" : "failure"] as? [[String: [String: String]]] ?? [] {
        guard let put = entry["request_put"], let lease = put["lease"], leases.contains(lease) else {
          return error(404, "etcdserver: requested lease not found")
        }
        self.put(text(put["key"]), text(put["value"]), lease: lease)
      }
      return ok(["succeeded": holds])
    default: return error(404, "Not Found")
    }
  }

  private func range(_ body: [String: Any]) -> APIOutcome {
    if let at = (body["revision"] as? String).flatMap({ Int($0) }), at < compacted {
      return error(400, "etcdserver: mvcc: required revision has been compacted")
    }
    let (from, end) = (text(body["key"] as? String), text(body["range_end"] as? String))
    let names = keys.keys.filter { $0 >= from && $0 < end }.sorted()
    if body["count_only"] as? Bool == true { return ok(["count": "\(names.count)"]) }
    let limit = (body["limit"] as? String).flatMap { Int($0) } ?? 0
    let page = limit > 0 ? Array(names.prefix(limit)) : names
    var answer: [String: Any] = ["kvs": page.map(kv), "count": "\(names.count)"]
    if page.count < names.count { answer["more"] = true }
    return ok(answer)
  }

  private func watch(_ body: [String: Any], _ watcher: Watcher) {
    let request = body["create_request"] as? [String: Any] ?? [:]
    let start = (request["start_revision"] as? String).flatMap { Int($0) } ?? 0
    let watcher = Watcher(
      call: watcher.call, server: watcher.server, from: text(request["key"] as? String),
      end: text(request["range_end"] as? String), lines: watcher.lines, done: watcher.done)
    line(["result": ["header": ["revision": "\(revision)"], "created": true]], to: watcher)
    if start < compacted {
      line(["result": ["canceled": true, "compact_revision": "\(compacted)"]], to: watcher)
    } else {
      watchers.append(watcher)
    }
  }

  private func tell(_ events: [[String: Any]], _ names: [String]) {
    for watcher in watchers where !watcher.call.isCancelled {
      guard names.contains(where: { $0 >= watcher.from && $0 < watcher.end }) else { continue }
      line(["result": ["header": ["revision": "\(revision)"], "events": events]], to: watcher)
    }
  }

  private func line(_ object: [String: Any], to watcher: Watcher) {
    data(object).withUnsafeBytes { watcher.lines($0) }
  }

  private func authenticate(_ body: [String: Any]) -> APIOutcome {
    guard let user, body["name"] as? String == user.name, body["password"] as? String == user.password else {
      return error(400, "etcdserver: authentication failed, invalid user ID or password")
    }
    given += 1
    tokens.insert("token.\(given)")
    return ok(["token": "token.\(given)"])
  }

  private func ok(_ object: [String: Any]) -> APIOutcome {
    var object = object
    object["header"] = ["revision": "\(revision)"]
    return .answered(status: 200, body: Array(data(object)))
  }

  private func error(_ status: Int, _ message: String) -> APIOutcome {
    .answered(status: status, body: Array(data(["error": message, "message": message, "code": 1])))
  }

  private func kv(_ key: String) -> [String: Any] {
    ["key": base64(key), "value": base64(keys[key]?.value ?? ""), "mod_revision": "\(revision)"]
  }

  private func base64(_ text: String) -> String { Data(text.utf8).base64EncodedString() }

  private func text(_ base64: String?) -> String {
    String(decoding: Data(base64Encoded: base64 ?? "") ?? Data(), as: UTF8.self)
  }

  private func data(_ object: [String: Any]) -> Data {
    (try? JSONSerialization.data(withJSONObject: object)) ?? Data()
  }
}

extension ScriptedEtcd {
  /// Writes both records of an instance, as its worker would.
  func register(_ id: UInt64, port: Int, model: String = "m") {
    let key = "dynamo/backend/generate/\(String(id, radix: 16))"
    put("v1/mdc/\(key)", "{\"display_name\":\"\(model)\",\"kv_cache_block_size\":32}")
    put(
      "v1/instances/\(key)",
      "{\"component\":\"backend\",\"endpoint\":\"generate\",\"namespace\":\"dynamo\",\"instance_id\":\(id),\"transport\":{\"http\":\"http://127.0.0.1:\(port)\"}}"
    )
  }

  func withdraw(_ id: UInt64) {
    let key = "dynamo/backend/generate/\(String(id, radix: 16))"
    delete(["v1/instances/\(key)", "v1/mdc/\(key)"])
  }
}
