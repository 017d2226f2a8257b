// The cases of the public W3C Trace Context harness (w3c/trace-context, test/test.py, level 2: 37 of its TraceContextTest,
// 3 of AdvancedTest, 1 of TraceContext2Test), each as what goes out for what came in. Sentences and code are our own.

import Base
import Testing

@testable import Telemetry

/// A service between two calls: takes headers, makes a span, and says what headers its own calls carry.
struct Service {
  private let propagators: Propagators
  private var random = Xoshiro256(seed: 20)

  init(_ propagators: Propagators = Propagators()) { self.propagators = propagators }

  /// The headers of one outgoing call of a request that came with `headers`.
  mutating func call(_ headers: [(String, String)]) -> Outgoing { calls(headers, 1)[0] }

  /// The same for several calls of one request.
  mutating func calls(_ headers: [(String, String)], _ count: Int) -> [Outgoing] {
    let caller = extract(headers)
    var state = TraceState()
    if caller.hasTraceState {
      for (name, value) in headers where name.lowercased() == "tracestate" {
        withBytes(value) { state.add($0) }
      }
    }
    let own = caller.span?.child(using: &random) ?? SpanContext(rootUsing: &random)
    let context = own.sampled(caller.isSampled ?? true)
    return (0..<count).map { _ in
      var lines = ByteBuffer()
      propagators.inject(
        context.child(using: &random), isDebug: caller.isDebug, traceState: Array(state.bytes), into: &lines)
      return Outgoing(lines.text)
    }
  }

  func extract(_ headers: [(String, String)]) -> CallerContext {
    let names: [PropagationField: String] = [
      .traceparent: "traceparent", .b3: "b3", .b3TraceID: "x-b3-traceid", .b3SpanID: "x-b3-spanid",
      .b3Sampled: "x-b3-sampled", .b3Flags: "x-b3-flags",
    ]
    // Values outlive the call: the memory is the test's.
    let memory = headers.map { header in
      let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: header.1.utf8.count, alignment: 1)
      bytes.copyBytes(from: header.1.utf8)
      return (header.0.lowercased(), bytes)
    }
    defer { memory.forEach { $0.1.deallocate() } }
    let count = memory.count { $0.0 == "traceparent" }
    return propagators.extract(traceparentCount: count) { field in
      memory.first { $0.0 == names[field] }.map { UnsafeRawBufferPointer($0.1) }
    }
  }
}

/// The headers of a call, as its receiver reads them.
struct Outgoing {
  let fields: [(name: String, value: String)]

  init(_ lines: String) {
    fields = lines.split(separator: "\r\n").map { line in
      let colon = line.firstIndex(of: ":") ?? line.endIndex
      return (String(line[..<colon]), String(line[colon...].dropFirst(2)))
    }
  }

  subscript(_ name: String) -> String? { fields.first { $0.name == name }?.value }

  private var parts: [Substring] { (self["traceparent"] ?? "").split(separator: "-") }
  var trace: String { parts.count == 4 ? String(parts[1]) : "" }
  var parent: String { parts.count == 4 ? String(parts[2]) : "" }
  var flags: String { parts.count == 4 ? String(parts[3]) : "" }
  var state: [String] { (self["tracestate"] ?? "").split(separator: ",").map(String.init) }

  /// One traceparent of version 00, whose ids are not zero.
  var isValid: Bool {
    fields.count { $0.name == "traceparent" } == 1 && parts.first == "00" && trace.count == 32
      && parent.count == 16 && flags.count == 2 && (trace + parent + flags).allSatisfy(\.isHexDigit)
      && trace.contains { $0 != "0" } && parent.contains { $0 != "0" }
  }
}

private let trace = "12345678901234567890123456789012"
private let parent = "1234567890123456"
private let good = "00-\(trace)-\(parent)-01"

@Suite struct W3CTraceParentCases {
  private func call(_ headers: [(String, String)]) -> Outgoing {
    var service = Service()
    let outgoing = service.call(headers)
    #expect(outgoing.isValid)
    return outgoing
  }

  private func restarts(_ value: String) -> Bool { call([("traceparent", value)]).trace != trace }

  @Test func case01NeitherHeaderBeginsATrace() { _ = call([]) }

  @Test func case02TheTraceGoesOnWithAnotherParent() {
    let outgoing = call([("traceparent", good)])
    #expect(outgoing.trace == trace && outgoing.parent != parent && outgoing.state.isEmpty)
  }

  @Test func case03TwoTraceparentsAreNone() {
    let other = "00-12345678901234567890123456789011-\(parent)-01"
    let outgoing = call([("traceparent", other), ("traceparent", good)])
    #expect(!["12345678901234567890123456789011", trace].contains(outgoing.trace))
  }

  @Test(arguments: ["trace-parent", "trace.parent"]) func case04OtherNamesAreOtherHeaders(_ name: String) {
    #expect(call([(name, good)]).trace != trace)
  }

  @Test(arguments: ["TraceParent", "TrAcEpArEnT", "TRACEPARENT"]) func case05NamesHaveNoCase(_ name: String) {
    #expect(call([(name, good)]).trace == trace)
  }

  @Test(arguments: [good + ".", good + "-what-the-future-will-be-like"])
  func case06VersionZeroEndsAtItsFlags(_ value: String) { #expect(restarts(value)) }

  @Test func case07LaterVersionsMayGoOnBehindADash() {
    let later = "cc" + good.dropFirst(2)
    #expect(!restarts(later))
    #expect(!restarts(later + "-what-the-future-will-be-like"))
    #expect(restarts(later + ".what-the-future-will-be-like"))
  }

  @Test func case08VersionFFIsForbidden() { #expect(restarts("ff" + good.dropFirst(2))) }

  @Test(arguments: [".0", "0."]) func case09AVersionIsHexadecimal(_ version: String) {
    #expect(restarts(version + good.dropFirst(2)))
  }

  @Test(arguments: ["000", "0000"]) func case10AVersionHasNoMoreThanTwoDigits(_ version: String) {
    #expect(restarts(version + good.dropFirst(2)))
  }

  @Test func case11AVersionHasNoFewerThanTwoDigits() { #expect(restarts("0" + good.dropFirst(2))) }

  @Test func case12ATraceOfZerosIsNone() {
    #expect(restarts("00-00000000000000000000000000000000-\(parent)-01"))
  }

  @Test(arguments: [".2345678901234567890123456789012", "1234567890123456789012345678901."])
  func case13ATraceIsHexadecimal(_ trace: String) {
    #expect(call([("traceparent", "00-\(trace)-\(parent)-01")]).trace != trace)
  }

  @Test func case14ATraceHasNoMoreThan32Digits() {
    let outgoing = call([("traceparent", "00-\(trace)3-\(parent)-01")])
    #expect(![trace, "23456789012345678901234567890123"].contains(outgoing.trace))
  }

  @Test func case15ATraceHasNoFewerThan32Digits() {
    #expect(restarts("00-\(trace.dropLast())-\(parent)-01"))
  }

  @Test func case16AParentOfZerosIsNone() { #expect(restarts("00-\(trace)-0000000000000000-01")) }

  @Test(arguments: [".234567890123456", "123456789012345."]) func case17AParentIsHexadecimal(_ parent: String)
  {
    #expect(restarts("00-\(trace)-\(parent)-01"))
  }

  @Test func case18AParentHasNoMoreThan16Digits() { #expect(restarts("00-\(trace)-\(parent)7-01")) }

  @Test func case19AParentHasNoFewerThan16Digits() {
    #expect(restarts("00-\(trace)-\(parent.dropLast())-01"))
  }

  @Test(arguments: [".0", "0."]) func case20FlagsAreHexadecimal(_ flags: String) {
    #expect(restarts("00-\(trace)-\(parent)-\(flags)"))
  }

  @Test func case21FlagsHaveNoMoreThanTwoDigits() { #expect(restarts("00-\(trace)-\(parent)-001")) }

  @Test func case22FlagsHaveNoFewerThanTwoDigits() { #expect(restarts("00-\(trace)-\(parent)-1")) }

  @Test(arguments: [" \(good)", "\t\(good)", "\(good) ", "\(good)\t", "\t \(good) \t"])
  func case23SpaceAroundAValueIsNotPartOfIt(_ value: String) { #expect(!restarts(value)) }

  // AdvancedTest: one request, three calls.

  @Test func case38CallsOfOneRequestShareTheTraceAndNotTheParent() {
    var service = Service()
    let calls = service.calls([("traceparent", good)], 3)
    #expect(Set(calls.map(\.trace)) == [trace] && Set(calls.map(\.parent)).count == 3)
  }

  @Test func case39SoDoCallsOfATraceThatBeginsHere() {
    var service = Service()
    let calls = service.calls([], 3)
    #expect(calls.allSatisfy(\.isValid) && Set(calls.map(\.trace)).count == 1)
    #expect(Set(calls.map(\.parent)).count == 3)
  }

  @Test func case40SoDoCallsBehindAnInvalidHeader() {
    var service = Service()
    let calls = service.calls([("traceparent", "00-00000000000000000000000000000000-\(parent)-01")], 3)
    #expect(calls.allSatisfy(\.isValid) && Set(calls.map(\.parent)).count == 3)
  }

  // TraceContext2Test: the flag that says the trace id is random.

  @Test(arguments: ["00", "01", "02", "03"]) func case41TheRandomFlagStaysWithItsTrace(_ flags: String) {
    #expect(call([("traceparent", "00-\(trace)-\(parent)-\(flags)")]).flags == flags)
    #expect(call([]).flags == "03")
  }
}

@Suite struct W3CTraceStateCases {
  private let head = ("traceparent", "00-\(trace)-\(parent)-00")

  /// The list that goes out for these tracestate headers.
  private func state(_ values: String..., name: String = "tracestate") -> [String] {
    var service = Service()
    let outgoing = service.call([head] + values.map { (name, $0) })
    #expect(outgoing.trace == trace)
    #expect(outgoing["tracestate"] != "")
    return outgoing.state
  }

  @Test(arguments: ["foo=1", "foo=1,bar=2"]) func case24AStateWithoutATraceIsDropped(_ value: String) {
    var service = Service()
    #expect(service.call([("tracestate", value)]).state.isEmpty)
  }

  @Test func case25AStateGoesOnWithItsTrace() { #expect(state("foo=1,bar=2") == ["foo=1", "bar=2"]) }

  @Test(arguments: ["trace-state", "trace.state"]) func case26OtherNamesAreOtherHeaders(_ name: String) {
    #expect(state("foo=1", name: name) == [])
  }

  @Test(arguments: ["TraceState", "TrAcEsTaTe", "TRACESTATE"]) func case27NamesHaveNoCase(_ name: String) {
    #expect(state("foo=1", name: name) == ["foo=1"])
  }

  @Test func case28EmptyHeadersAreAllowed() {
    #expect(state("") == [])
    #expect(state("foo=1", "") == ["foo=1"])
    #expect(state("", "foo=1") == ["foo=1"])
  }

  @Test func case29SeveralHeadersAreOneListInTheirOrder() {
    #expect(
      state("foo=1,bar=2", "rojo=1,congo=2", "baz=3") == ["foo=1", "bar=2", "rojo=1", "congo=2", "baz=3"])
  }

  @Test func case30AKeyThatComesAgainIsKeptAsItIs() {
    // The harness takes either: both kept, or one of them.
    #expect(state("foo=1,foo=1") == ["foo=1", "foo=1"])
    #expect(state("foo=1,foo=2") == ["foo=1", "foo=2"])
    #expect(state("foo=1", "foo=1") == ["foo=1", "foo=1"])
    #expect(state("foo=1", "foo=2") == ["foo=1", "foo=2"])
  }

  @Test func case31EveryAllowedCharacterPasses() {
    let key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/"
    let visible = (0x20...0x7e).map { String(UnicodeScalar(UInt8($0))) }.filter { $0 != "," && $0 != "=" }
    for key in [key, key + "@a-z0-9_-*/"] {
      #expect(state("\(key)=\(visible.joined())") == ["\(key)=\(visible.joined())"])
    }
  }

  @Test func case32SpaceAroundMembersIsNotPartOfThem() {
    #expect(state("foo=1 \t , \t bar=2, \t baz=3") == ["foo=1", "bar=2", "baz=3"])
    #expect(state("foo=1\t \t,\t \tbar=2,\t \tbaz=3") == ["foo=1", "bar=2", "baz=3"])
    for value in [" foo=1", "\tfoo=1", "foo=1 ", "foo=1\t", "\t foo=1 \t"] {
      #expect(state(value) == ["foo=1"])
    }
  }

  @Test(arguments: ["foo =1", "FOO=1", "foo.bar=1"]) func case33OtherCharactersInAKeyDropTheList(
    _ value: String
  ) {
    #expect(state(value) == [])
  }

  @Test func case34AnAtSignMayStandAnywhereButFirst() {
    // Level 2 has no form of tenant and vendor any more.
    #expect(state("foo@=1,bar=2") == ["foo@=1", "bar=2"])
    #expect(state("@foo=1,bar=2") == [])
    #expect(state("foo@@bar=1,bar=2") == ["foo@@bar=1", "bar=2"])
    #expect(state("foo@bar@baz=1,bar=2") == ["foo@bar@baz=1", "bar=2"])
  }

  @Test func case35ThirtyTwoMembersPassAndThirtyThreeDoNot() {
    let members = (1...32).map { "bar\($0)=\($0)" }
    let lines = stride(from: 0, to: 32, by: 10).map { members[$0..<min($0 + 10, 32)].joined(separator: ",") }
    var service = Service()
    #expect(service.call([head] + lines.map { ("tracestate", $0) }).state == members)
    #expect(
      service.call([head] + lines.map { ("tracestate", $0) } + [("tracestate", "bar33=33")]).state == [])
  }

  @Test func case36AKeyHasAtMost256Characters() {
    func key(_ text: String) -> [String] { state("foo=1", text + "=1") }
    #expect(key(String(repeating: "z", count: 256)).first == "foo=1")
    #expect(key(String(repeating: "z", count: 257)) == [])
    #expect(key(String(repeating: "t", count: 241) + "@" + String(repeating: "v", count: 14)).count == 2)
    // No shorter bounds on either side of an at sign.
    #expect(key(String(repeating: "t", count: 242) + "@v").count == 2)
    #expect(key("t@" + String(repeating: "v", count: 15)).count == 2)
  }

  @Test(arguments: ["foo=bar=baz", "foo=,bar=3"]) func case37AValueIsNeitherEmptyNorHoldsAnEqualsSign(
    _ value: String
  ) {
    #expect(state(value) == [])
  }
}
