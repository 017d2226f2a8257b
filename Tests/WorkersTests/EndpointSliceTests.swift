// Workers found as endpoints of Kubernetes services: lists, watches, forgotten versions, outages.

import Base
import EventLoop
import Foundation
import TestSupport
import Testing

@testable import Workers

/// An API server that answers as a test says.
final class ScriptedAPIServer: APIConnector {
  final class Call: APICall {
    let request: APIRequest
    let lines: ((UnsafeRawBufferPointer) -> Void)?
    fileprivate(set) var done: ((APIOutcome) -> Void)?

    fileprivate init(
      _ request: APIRequest, _ lines: ((UnsafeRawBufferPointer) -> Void)?,
      _ done: @escaping (APIOutcome) -> Void
    ) {
      self.request = request
      self.lines = lines
      self.done = done
    }

    func cancel() { done = nil }

    var isOpen: Bool { done != nil }
    var isWatch: Bool { request.path.contains("&watch=1") }

    func answer(_ status: Int, _ body: String = "{}") {
      end(.answered(status: status, body: Array(body.utf8)))
    }

    func end(_ outcome: APIOutcome) {
      let done = done
      self.done = nil
      done?(outcome)
    }

    func say(_ type: String, _ object: String) {
      guard isOpen else { return }
      Array("{\"type\":\"\(type)\",\"object\":\(object)}".utf8).withUnsafeBytes { lines?($0) }
    }
  }

  let serverCount = 1
  private(set) var calls: [Call] = []
  private(set) var isClosed = false

  func send(
    _ request: APIRequest, to server: Int, lines: ((UnsafeRawBufferPointer) -> Void)?,
    _ done: @escaping (APIOutcome) -> Void
  ) -> any APICall {
    let call = Call(request, lines, done)
    calls.append(call)
    return call
  }

  func close() { isClosed = true }

  /// The only request under way.
  func current() throws -> Call {
    let open = calls.filter(\.isOpen)
    #expect(open.count == 1)
    return try #require(open.last)
  }
}

struct EndpointSliceTests {
  private final class Rig {
    let server = ScriptedAPIServer()
    let control: ControlRig
    let folder = NSTemporaryDirectory() + "account-\(UInt64.random(in: 0...UInt64.max))"

    init(edit: (inout KubernetesSettings) -> Void = { _ in }) throws {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
      try Data("first\n".utf8).write(to: URL(fileURLWithPath: folder + "/token"))
      try Data("prod".utf8).write(to: URL(fileURLWithPath: folder + "/namespace"))
      var settings = KubernetesSettings(
        environment: ["DYN_KUBE_API_SERVER": "http://127.0.0.1:1", "DYN_KUBE_SERVICE_ACCOUNT": folder])
      edit(&settings)
      let server = server
      control = try ControlRig(source: { loop in EndpointSliceSource(settings, connector: server, on: loop) })
    }

    deinit { try? FileManager.default.removeItem(atPath: folder) }

    var urls: [String] { control.latest.workers.map(\.url).sorted() }

    func turn() { control.turn() }

    /// Lists these slices and begins the watch.
    func list(_ slices: String..., version: Int = 10) throws {
      try server.current().answer(
        200,
        "{\"metadata\":{\"resourceVersion\":\"\(version)\"},\"items\":[\(slices.joined(separator: ","))]}")
      turn()
    }

    var warnings: [String] { control.lines.lines.filter { $0.contains("discovery cannot be read") } }
  }

  private static func slice(
    _ name: String, version: Int = 11, ports: String = "[{\"name\":\"http\",\"port\":8000}]",
    _ endpoints: (address: String, ready: Bool?)...
  ) -> String {
    let list = endpoints.map { endpoint in
      let conditions = endpoint.ready.map { ",\"conditions\":{\"ready\":\($0)}" } ?? ""
      return "{\"addresses\":[\"\(endpoint.address)\"]\(conditions)}"
    }
    return
      "{\"metadata\":{\"name\":\"\(name)\",\"resourceVersion\":\"\(version)\"},\"addressType\":\"IPv4\",\"ports\":\(ports),\"endpoints\":[\(list.joined(separator: ","))]}"
  }

  @Test func readyEndpointsAreWorkersThatAreAskedWhatTheyAre() throws {
    let rig = try Rig()
    let path = try rig.server.current().request.path
    #expect(
      path.hasPrefix(
        "/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices?labelSelector=app.kubernetes.io%2Fname%3Ddynamo-worker&"
      ))
    try rig.list(Self.slice("a", ("10.0.0.1", true), ("10.0.0.2", false), ("10.0.0.3", nil)))
    #expect(rig.urls == ["http://10.0.0.1:8000", "http://10.0.0.3:8000"])
    #expect(rig.control.latest.workers.allSatisfy { $0.source.label == "kubernetes" })
    #expect(rig.control.state() == "unprobed")
    rig.control.prober.open.first?.end(.success(ProbeAnswer(models: ["m"])))
    rig.turn()
    #expect(rig.control.state() == "ready")
  }

  @Test func aPodWithAddressesOfBothFamiliesIsOneWorker() throws {
    let rig = try Rig()
    func slice(_ name: String, _ family: String, _ address: String) -> String {
      "{\"metadata\":{\"name\":\"\(name)\"},\"addressType\":\"\(family)\",\"ports\":[{\"port\":8000}],\"endpoints\":[{\"addresses\":[\"\(address)\"],\"targetRef\":{\"uid\":\"u1\"}}]}"
    }
    try rig.list(slice("a", "IPv6", "fd00::1"), slice("b", "IPv4", "10.0.0.1"))
    #expect(rig.urls == ["http://10.0.0.1:8000"])
  }

  @Test func aLongListComesInPages() throws {
    let rig = try Rig()
    try rig.server.current().answer(
      200,
      "{\"metadata\":{\"resourceVersion\":\"10\",\"continue\":\"a/b\"},\"items\":[\(Self.slice("a", ("10.0.0.1", true)))]}"
    )
    rig.turn()
    #expect(rig.urls.isEmpty)
    #expect(try rig.server.current().request.path.contains("&continue=a%2Fb"))
    try rig.list(Self.slice("b", ("10.0.0.2", true)))
    #expect(rig.urls == ["http://10.0.0.1:8000", "http://10.0.0.2:8000"])
  }

  @Test func aListWhoseContinuationEndedBeginsAnewOnce() throws {
    let rig = try Rig()
    for _ in 0..<2 {
      try rig.server.current().answer(
        200, "{\"metadata\":{\"resourceVersion\":\"10\",\"continue\":\"x\"},\"items\":[]}")
      try rig.server.current().answer(410)
    }
    #expect(rig.warnings.count == 1)
    #expect(rig.server.calls.allSatisfy { !$0.isOpen })
  }

  @Test func aWatchTellsOfEndpointsThatComeAndGo() throws {
    let rig = try Rig()
    try rig.list(Self.slice("a", ("10.0.0.1", true)))
    let watch = try rig.server.current()
    #expect(watch.isWatch && watch.request.path.contains("resourceVersion=10"))
    watch.say("ADDED", Self.slice("b", version: 12, ("10.0.0.2", true)))
    rig.turn()
    #expect(rig.urls == ["http://10.0.0.1:8000", "http://10.0.0.2:8000"])
    // A pod that is ending is not ready any more: it gets no request from here on.
    watch.say("MODIFIED", Self.slice("a", version: 13, ("10.0.0.1", false)))
    rig.turn()
    #expect(rig.urls == ["http://10.0.0.2:8000"])
    watch.say("DELETED", Self.slice("b", version: 14, ("10.0.0.2", true)))
    rig.turn()
    #expect(rig.urls.isEmpty)
  }

  @Test func aWatchThatEndsInTimeGoesOnFromTheLastVersion() throws {
    let rig = try Rig()
    try rig.list(Self.slice("a", ("10.0.0.1", true)))
    let watch = try rig.server.current()
    watch.say("BOOKMARK", "{\"metadata\":{\"resourceVersion\":\"99\"}}")
    rig.control.advance(60 * second)
    watch.answer(200, "")
    let next = try rig.server.current()
    #expect(next.isWatch && next.request.path.contains("resourceVersion=99"))
    #expect(rig.urls == ["http://10.0.0.1:8000"])
    #expect(rig.warnings.isEmpty)
    // One that ends at once, again and again, is not asked again at once.
    next.answer(200, "")
    #expect(rig.warnings.count == 1)
    #expect(rig.server.calls.allSatisfy { !$0.isOpen })
  }

  @Test(arguments: [true, false]) func aForgottenVersionIsListedAnew(inStream: Bool) throws {
    let rig = try Rig()
    try rig.list(Self.slice("a", ("10.0.0.1", true)))
    let watch = try rig.server.current()
    if inStream {
      watch.say("ERROR", "{\"kind\":\"Status\",\"code\":410,\"message\":\"too old resource version\"}")
    } else {
      watch.answer(410)
    }
    #expect(rig.warnings.isEmpty)
    let list = try rig.server.current()
    #expect(!list.isWatch)
    try rig.list(Self.slice("b", ("10.0.0.2", true)), version: 50)
    #expect(rig.urls == ["http://10.0.0.2:8000"])
    // A server that forgets its own answer is not asked in a loop.
    try rig.server.current().answer(410)
    #expect(rig.warnings.count == 1)
  }

  @Test func inAnOutageTheLastSetStays() throws {
    let rig = try Rig()
    try rig.list(Self.slice("a", ("10.0.0.1", true)))
    try rig.server.current().end(.failed("it closed the connection"))
    rig.turn()
    #expect(rig.urls == ["http://10.0.0.1:8000"])
    for _ in 0..<3 {
      rig.control.advance(9 * second)
      try rig.server.current().end(.failed("connect: Connection refused"))
    }
    #expect(rig.warnings.count == 2)
    #expect(rig.urls == ["http://10.0.0.1:8000"])
    rig.control.advance(9 * second)
    try rig.list(Self.slice("a", ("10.0.0.9", true)))
    #expect(rig.urls == ["http://10.0.0.9:8000"])
    #expect(rig.control.lines.lines.contains { $0.contains("discovery can be read again") })
  }

  @Test func aSilentWatchIsGivenUp() throws {
    let rig = try Rig()
    try rig.list()
    rig.control.advance(76 * second)
    #expect(rig.warnings.first?.contains("silent") == true)
    #expect(rig.server.calls.allSatisfy { !$0.isOpen })
  }

  @Test func theTokenIsReadAgainForEachRequest() throws {
    let rig = try Rig()
    func authorization() throws -> String? {
      try rig.server.current().request.headers.first { $0.name == "authorization" }?.value
    }
    #expect(try authorization() == "Bearer first")
    try Data("second".utf8).write(to: URL(fileURLWithPath: rig.folder + "/token"))
    try rig.server.current().answer(401, "{\"message\":\"Unauthorized\"}")
    #expect(rig.warnings.first?.contains("status 401: Unauthorized") == true)
    rig.control.advance(second)
    #expect(try authorization() == "Bearer second")
  }

  @Test func portsAreChosenByNameAndSchemesByTheirProtocol() {
    func servers(_ ports: String) -> [String] {
      var slices = EndpointSlices(portName: "api")
      let text = Self.slice("a", ports: ports, ("10.0.0.1", true))
      Array(text.utf8).withUnsafeBytes { if let slice = EtcdAnswer.parse($0) { slices.put(slice) } }
      return slices.servers.map(\.text)
    }
    #expect(servers("[{\"name\":\"x\",\"port\":1},{\"name\":\"api\",\"port\":2}]") == ["http://10.0.0.1:2"])
    #expect(servers("[{\"name\":\"x\",\"port\":1}]") == ["http://10.0.0.1:1"])
    #expect(servers("[{\"name\":\"x\",\"port\":1},{\"name\":\"y\",\"port\":2}]").isEmpty)
    #expect(servers("[{\"name\":\"api\",\"port\":3,\"appProtocol\":\"https\"}]") == ["https://10.0.0.1:3"])
    #expect(
      servers("[{\"name\":\"api\",\"port\":3,\"appProtocol\":\"kubernetes.io/h2c\"}]") == ["h2c://10.0.0.1:3"]
    )
    #expect(servers("[{\"name\":\"api\",\"port\":70000}]").isEmpty)
    #expect(servers("[]").isEmpty)
  }

  @Test func anEndpointInTwoSlicesIsOneWorker() {
    var slices = EndpointSlices(portName: "http")
    for name in ["a", "b"] {
      let text = Self.slice(name, ("10.0.0.1", true))
      Array(text.utf8).withUnsafeBytes { if let slice = EtcdAnswer.parse($0) { slices.put(slice) } }
    }
    #expect(slices.servers.count == 1)
  }

  @Test func settingsThatCannotBeAreSaid() throws {
    #expect(KubernetesSettings(environment: [:]).faults().first?.contains("KUBERNETES_SERVICE_HOST") == true)
    let pod = KubernetesSettings(
      environment: [
        "KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443", "POD_NAMESPACE": "x",
      ])
    #expect(pod.server == "https://[fd00::1]:6443")
    #expect(pod.namespace == "x")
    #expect(pod.faults().first?.contains("TLS to Kubernetes") == true)
    #expect(
      KubernetesSettings(environment: [
        "DYN_KUBE_API_SERVER": "http://a:1", "DYN_KUBE_SERVICE_ACCOUNT": "/nowhere",
      ])
      .faults().first?.contains("namespace") == true)
    #expect(
      KubernetesSettings(environment: ["DYN_KUBE_API_SERVER": "http://a:1", "DYN_KUBE_NAMESPACE": "x"])
        .faults().isEmpty)
  }
}
