// traceparent and tracestate by W3C Trace Context level 2.

import Base
import Testing

@testable import Telemetry

private let traceText = "0af7651916cd43dd8448eb211c80319c"
private let spanText = "b7ad6b7169203331"

@Suite struct TraceParentTests {
  private func parse(_ text: String, fieldCount: Int = 1) -> SpanContext? {
    withBytes(text) { TraceParent.parse($0, fieldCount: fieldCount) }
  }

  @Test func aValidHeaderReadsBackAsItWasWritten() throws {
    let text = "00-\(traceText)-\(spanText)-01"
    let context = try #require(parse(text))
    #expect(context.traceID == TraceID(high: 0x0af7_6519_16cd_43dd, low: 0x8448_eb21_1c80_319c))
    #expect(context.spanID == 0xb7ad_6b71_6920_3331)
    #expect(context.isSampled)
    var out = ByteBuffer()
    out.append(traceparent: context)
    #expect(out.text == text)
  }

  @Test(arguments: [
    "00-\(traceText)-\(spanText)-01 ", " \t00-\(traceText)-\(spanText)-01\t",
  ]) func spaceAroundIsTrimmed(_ text: String) { #expect(parse(text) != nil) }

  @Test(arguments: [
    "", "00", "00-\(traceText)-\(spanText)", "00-\(traceText)-\(spanText)-", "00-\(traceText)-\(spanText)-1",
    // Version 00 with a tail, ff, uppercase, other characters.
    "00-\(traceText)-\(spanText)-01-", "00-\(traceText)-\(spanText)-01-what",
    "00-\(traceText)-\(spanText)-01.", "ff-\(traceText)-\(spanText)-01", "ff-\(traceText)-\(spanText)-01-x",
    "0-\(traceText)-\(spanText)-01", "0g-\(traceText)-\(spanText)-01", "FE-\(traceText)-\(spanText)-01",
    "00-0AF7651916CD43DD8448EB211C80319C-\(spanText)-01", "00-\(traceText)-B7AD6B7169203331-01",
    "00-\(traceText)-\(spanText)-0A", "00-\(traceText)-\(spanText)-0g", "00-\(traceText)-\(spanText)-.0",
    // All zero.
    "00-00000000000000000000000000000000-\(spanText)-01", "00-\(traceText)-0000000000000000-01",
    // Wrong lengths and dashes.
    "00-\(traceText)0-\(spanText)-01", "00-\(traceText)-\(spanText)0-01", "00-\(traceText)-\(spanText)-001",
    "00_\(traceText)-\(spanText)-01", "00-\(traceText)_\(spanText)-01", "00-\(traceText)-\(spanText)_01",
    "00-0af7651916cd43dd8448eb211c80319-\(spanText)-010", ".0-\(traceText)-\(spanText)-01",
    // Two values in one field, and a later version whose tail has no dash.
    "00-\(traceText)-\(spanText)-01,00-\(traceText)-\(spanText)-01", "01-\(traceText)-\(spanText)-01x",
    "01-\(traceText)-\(spanText)-010",
  ]) func otherValuesStartANewTrace(_ text: String) { #expect(parse(text) == nil) }

  @Test(arguments: [
    "cc-\(traceText)-\(spanText)-01", "cc-\(traceText)-\(spanText)-01-what-comes",
    "01-\(traceText)-\(spanText)-01-",
  ])
  func laterVersionsAreReadByTheirFirstPartAndLeaveAsVersionZero(_ text: String) throws {
    let context = try #require(parse(text))
    var out = ByteBuffer()
    out.append(traceparent: context)
    #expect(out.text == "00-\(traceText)-\(spanText)-01")
  }

  @Test func twoHeadersAreAsGoodAsNone() {
    #expect(parse("00-\(traceText)-\(spanText)-01", fieldCount: 2) == nil)
    #expect(parse("00-\(traceText)-\(spanText)-01", fieldCount: 0) == nil)
  }

  @Test(arguments: [("00", "00"), ("01", "01"), ("02", "02"), ("03", "03"), ("ff", "03"), ("08", "00")])
  func onlyTheKnownFlagsArePassedOn(_ given: String, _ passed: String) throws {
    let context = try #require(parse("00-\(traceText)-\(spanText)-\(given)"))
    var out = ByteBuffer()
    out.append(traceparent: context)
    #expect(out.text.hasSuffix("-\(passed)"))
  }

  @Test func newContextsAreRandomValidAndMarkedSo() {
    var random = Xoshiro256(seed: 5)
    var seen: Set<UInt64> = []
    for _ in 0..<1_000 {
      let root = SpanContext(rootUsing: &random)
      #expect(root.traceID.isValid && root.spanID != 0 && root.flags == 0x03)
      let child = root.child(using: &random)
      #expect(child.traceID == root.traceID && child.spanID != root.spanID && child.flags == root.flags)
      seen.insert(root.traceID.low)
      seen.insert(child.spanID)
    }
    #expect(seen.count == 2_000)
    let root = SpanContext(rootUsing: &random, sampled: false)
    #expect(!root.isSampled && root.sampled(true).isSampled && !root.sampled(true).sampled(false).isSampled)
    #expect(root.sampled(true).flags == 0x03)
    #expect(TraceID(high: 0, low: 0).isValid == false)
    #expect(TraceID(high: 9, low: .max).randomness == 1 << 56 - 1)
  }
}

@Suite struct TraceStateTests {
  private func state(_ headers: [String]) -> String {
    var state = TraceState()
    for header in headers { withBytes(header) { state.add($0) } }
    let text = state.bytes.text
    let isEmpty = state.isEmpty
    #expect(isEmpty == text.isEmpty)
    return text
  }

  @Test func severalHeadersJoinInOrder() {
    #expect(state(["foo=1", "bar=2,baz=3"]) == "foo=1,bar=2,baz=3")
    #expect(state([]) == "")
  }

  @Test(arguments: [
    ("foo=1,", "foo=1"), ("", ""), (" , ,foo=1 \t,\tbar=2 ", "foo=1,bar=2"), ("foo= 1", "foo= 1"),
    ("a b=1", ""), ("foo=1,foo=2", "foo=1,foo=2"), ("foo@=1,bar=2", "foo@=1,bar=2"),
    ("0a_-*/@z=!~", "0a_-*/@z=!~"),
  ]) func spaceAndEmptyMembersAreHarmless(_ given: String, _ kept: String) { #expect(state([given]) == kept) }

  @Test(arguments: [
    "foo", "=1", "foo=", "foo=1=2", "FOO=1", "foo.bar=1", "_foo=1", "foo=é", "foo=1\u{7f}", "foo=\t1",
    "foo =1",
    String(repeating: "a", count: 257) + "=1", "a=" + String(repeating: "b", count: 257),
  ]) func oneBadMemberDropsTheWholeList(_ text: String) {
    #expect(state([text]) == "")
    #expect(state(["good=1", text]) == "")
    #expect(state(["good=1," + text, "more=1"]) == "")
  }

  @Test func longestKeysAndValuesPass() {
    let member = String(repeating: "a", count: 256) + "=" + String(repeating: "b", count: 256)
    #expect(state([member]) == member)
  }

  @Test func thirtyTwoMembersPassAndOneMoreDropsAll() {
    let members = (0..<32).map { "k\($0)=v" }
    #expect(state([members.joined(separator: ",")]) == members.joined(separator: ","))
    #expect(state(members + ["last=1"]) == "")
    #expect(state([members.joined(separator: ",") + ", ,"]) != "")
  }

  @Test func aListThatIsTooLongLosesItsLargeMembersFirstThenFromTheRight() {
    let large = "large=" + String(repeating: "x", count: 200)
    var trace = TraceState()
    withBytes("a=1,\(large),b=2,c=3") { trace.add($0) }
    trace.shrink(to: 11)
    #expect(trace.bytes.text == "a=1,b=2,c=3")
    trace.shrink(to: 10)
    #expect(trace.bytes.text == "a=1,b=2")
    trace.shrink(to: 0)
    let isEmpty = trace.isEmpty
    #expect(isEmpty)
  }

  @Test func whatIsPassedOnIsBounded() {
    let members = (0..<32).map { "k\($0)=" + String(repeating: "v", count: 120) }
    let kept = state([members.joined(separator: ",")])
    #expect(kept.utf8.count <= TraceState.bytesMax)
    #expect(kept.utf8.count >= 512)
    #expect(members.joined(separator: ",").hasPrefix(kept))
  }
}
