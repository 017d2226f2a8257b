// OTEL_PROPAGATORS, B3 in both encodings, baggage.

import Base
import Testing

@testable import Telemetry

private let trace = "463ac35c9f6413ad48485a3953bb6124"
private let span = "a2fb4a1d1a96d312"
private let context = SpanContext(
  traceID: TraceID(high: 0x463a_c35c_9f64_13ad, low: 0x4848_5a39_53bb_6124), spanID: 0xa2fb_4a1d_1a96_d312,
  flags: 0)

private func propagators(_ text: String) -> Propagators {
  var warnings: [String] = []
  return Propagators(parsing: text, warnings: &warnings)
}

@Suite struct PropagatorNameTests {
  @Test func theDefaultIsTheW3CsTwo() {
    #expect(propagators("tracecontext,baggage") == Propagators())
    #expect(propagators("") == Propagators() && propagators(" , ") == Propagators())
    let standard = Propagators()
    #expect(standard.usesTraceContext && standard.usesBaggage && !standard.usesB3)
  }

  @Test func namesHaveNoCaseAndMayComeAgain() {
    let read = propagators(" B3 , TraceContext,b3")
    #expect(read.usesTraceContext && read.writesSingleB3 && !read.writesMultiB3 && !read.usesBaggage)
    #expect(!read.prefersB3)
    #expect(propagators("tracecontext,b3multi").prefersB3)
    #expect(propagators("tracecontext,b3,tracecontext").prefersB3)
  }

  @Test func noneIsNone() {
    let none = propagators("none")
    #expect(!none.usesTraceContext && !none.usesBaggage && !none.usesB3)
    var lines = ByteBuffer()
    none.inject(context, isDebug: false, traceState: [], into: &lines)
    #expect(lines.text == "")
    #expect(
      Service(none).extract([("traceparent", "00-\(trace)-\(span)-01"), ("b3", "0")]) == CallerContext())
  }

  @Test func whatIsUnknownIsNamedAndLeftOut() {
    var warnings: [String] = []
    let read = Propagators(parsing: "jaeger,b3", warnings: &warnings)
    #expect(warnings.count == 1 && warnings[0].contains("jaeger") && read.usesB3 && !read.usesTraceContext)
    #expect(Propagators(parsing: "xray", warnings: &warnings) == Propagators())
  }
}

@Suite struct B3Tests {
  private func read(_ headers: (String, String)..., by names: String = "b3") -> CallerContext {
    Service(propagators(names)).extract(headers)
  }

  @Test(
    arguments: [
      ("\(trace)-\(span)", nil, false), ("\(trace)-\(span)-0", false, false),
      ("\(trace)-\(span)-1", true, false),
      ("\(trace)-\(span)-d", true, true), ("\(trace)-\(span)-1-05e3ac9a4f6e3b90", true, false),
      (" \(trace)-\(span)-1\t", true, false),
    ] as [(String, Bool?, Bool)])
  func theSingleHeaderIsRead(_ value: String, _ isSampled: Bool?, _ isDebug: Bool) {
    let found = read(("b3", value))
    #expect(found.span?.traceID == context.traceID && found.span?.spanID == context.spanID)
    #expect(found.isSampled == isSampled && found.isDebug == isDebug && !found.hasTraceState)
    #expect(found.span?.isSampled == (isSampled ?? false))
  }

  @Test func aShortTraceIsTheLowHalfOfALongOne() {
    let found = read(("b3", "48485a3953bb6124-\(span)-1"))
    #expect(found.span?.traceID == TraceID(high: 0, low: 0x4848_5a39_53bb_6124))
    var service = Service(propagators("b3"))
    #expect(
      service.call([("b3", "48485a3953bb6124-\(span)-1")])["b3"]?.hasPrefix("000000000000000048485a") == true)
  }

  @Test(arguments: [
    "", "-", "x", "2", "\(trace)", "\(trace)-", "\(trace)-\(span)-", "\(trace)-\(span)-2",
    "\(trace)-\(span)-11",
    "\(trace)-\(span)-1-", "\(trace)-\(span)-1-05e3", "\(trace)-\(span)-1-05e3ac9a4f6e3b9g",
    "\(trace)-\(span)-1x05e3ac9a4f6e3b90", "\(trace)-\(span)-1-05e3ac9a4f6e3b901", "\(trace)0-\(span)-1",
    "\(trace.dropLast())-\(span)-1", "\(trace)-\(span.dropLast())-1", "\(trace)-\(span)a-1",
    "463AC35C9F6413AD48485A3953BB6124-\(span)-1", "\(trace)-\(span.uppercased())-1",
    "00000000000000000000000000000000-\(span)-1", "0000000000000000-\(span)-1", "\(trace)-0000000000000000-1",
  ])
  func anInvalidSingleHeaderIsAsGoodAsNone(_ value: String) {
    #expect(read(("b3", value)) == CallerContext())
    let found = read(
      ("b3", value), ("X-B3-TraceId", trace), ("X-B3-SpanId", span), ("X-B3-Sampled", "1"))
    #expect(found.span?.spanID == context.spanID, "then the other form is read")
  }

  @Test func everyPrefixOfAValidHeaderIsReadOrRefused() {
    let whole = "\(trace)-\(span)-1-05e3ac9a4f6e3b90"
    for length in 0..<whole.count where ![49, 51, 52].contains(length) {
      #expect(read(("b3", String(whole.prefix(length)))).span == nil, "\(length)")
    }
  }

  @Test(arguments: [("0", false, false), ("1", true, false), ("d", true, true)])
  func aDecisionAloneIsTakenWithoutATrace(_ value: String, _ isSampled: Bool, _ isDebug: Bool) {
    let found = read(("b3", value))
    #expect(found.span == nil && found.isSampled == isSampled && found.isDebug == isDebug)
  }

  @Test(
    arguments: [
      (nil, nil, nil, false), ("1", nil, true, false), ("0", nil, false, false), ("true", nil, true, false),
      ("FALSE", nil, false, false), ("yes", nil, nil, false), (nil, "1", true, true), ("0", "1", true, true),
      ("0", "0", false, false),
    ] as [(String?, String?, Bool?, Bool)])
  func theOtherHeadersAreRead(_ sampled: String?, _ flags: String?, _ isSampled: Bool?, _ isDebug: Bool) {
    var headers = [("X-B3-TraceId", trace), ("X-B3-SpanId", span), ("X-B3-ParentSpanId", "05e3ac9a4f6e3b90")]
    if let sampled { headers.append(("X-B3-Sampled", sampled)) }
    if let flags { headers.append(("X-B3-Flags", flags)) }
    let found = Service(propagators("b3multi")).extract(headers)
    #expect(found.span?.traceID == context.traceID && found.span?.spanID == context.spanID)
    #expect(found.isSampled == isSampled && found.isDebug == isDebug)
  }

  @Test func halfAPairOfIdsIsNone() {
    #expect(read(("X-B3-TraceId", trace), ("X-B3-Sampled", "1")).span == nil)
    #expect(read(("X-B3-SpanId", span)).span == nil)
    #expect(read(("X-B3-TraceId", trace), ("X-B3-SpanId", "a2fb")).span == nil)
    #expect(read(("X-B3-Sampled", "0")).isSampled == false)
  }

  @Test func theSingleHeaderWinsOverTheOthers() {
    let found = read(
      ("X-B3-TraceId", "0af7651916cd43dd8448eb211c80319c"), ("X-B3-SpanId", span), ("X-B3-Sampled", "0"),
      ("b3", "\(trace)-\(span)-1"), by: "b3multi")
    #expect(found.span?.traceID == context.traceID && found.isSampled == true)
  }

  @Test func theLastNamedFormatWinsWhereBothAreValid() {
    let both = [
      ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-\(span)-00"), ("b3", "\(trace)-\(span)-1"),
    ]
    #expect(Service(propagators("tracecontext,b3")).extract(both).span?.traceID == context.traceID)
    let other = Service(propagators("b3,tracecontext")).extract(both)
    #expect(other.span?.traceID != context.traceID && other.hasTraceState && other.isSampled == false)
    let broken = [("traceparent", "00-\(trace)-\(span)-01"), ("b3", "0")]
    let found = Service(propagators("tracecontext,b3")).extract(broken)
    #expect(
      found.span?.traceID == context.traceID && found.isSampled == true, "a trace is more than a decision")
    #expect(Service(propagators("b3,tracecontext")).extract([("b3", "0")]).isSampled == false)
  }

  @Test func bothFormsAreWrittenAsAsked() {
    func lines(_ names: String, _ sampled: Bool, debug: Bool = false) -> String {
      var lines = ByteBuffer()
      propagators(names).inject(
        context.sampled(sampled), isDebug: debug, traceState: Array("a=1".utf8), into: &lines)
      return lines.text
    }
    let multi = "x-b3-traceid: \(trace)\r\nx-b3-spanid: \(span)\r\n"
    #expect(lines("b3", true) == "b3: \(trace)-\(span)-1\r\n")
    #expect(lines("b3", false) == "b3: \(trace)-\(span)-0\r\n")
    #expect(lines("b3", true, debug: true) == "b3: \(trace)-\(span)-d\r\n")
    #expect(lines("b3multi", true) == multi + "x-b3-sampled: 1\r\n")
    #expect(lines("b3multi", false) == multi + "x-b3-sampled: 0\r\n")
    #expect(lines("b3multi", true, debug: true) == multi + "x-b3-flags: 1\r\n")
    #expect(
      lines("b3,tracecontext", true)
        == "traceparent: 00-\(trace)-\(span)-01\r\ntracestate: a=1\r\nb3: \(trace)-\(span)-1\r\n")
  }
}

@Suite struct BaggageTests {
  private func pass(_ lines: String...) -> (list: String, dropped: Int) {
    var baggage = Baggage()
    var out = ByteBuffer()
    for line in lines { withBytes(line) { baggage.add($0, to: &out) } }
    return (out.text, baggage.droppedCount)
  }

  @Test(arguments: [
    (
      "userId=alice,serverNode=DF%2028,isProduction=false",
      "userId=alice,serverNode=DF%2028,isProduction=false"
    ),
    (" a = 1 ,\tb=2;p1;p2=x , ", "a = 1,b=2;p1;p2=x"), ("a=", "a="), ("a=b=c", "a=b=c"), ("", ""), (",,", ""),
    ("a=1,a=2", "a=1,a=2"), ("!#$%&'*+-.^_`|~09AZaz=1", "!#$%&'*+-.^_`|~09AZaz=1"),
  ]) func membersPassAsTheyCame(_ given: String, _ passed: String) {
    #expect(pass(given) == (passed, 0))
  }

  @Test func severalHeadersBecomeOneList() { #expect(pass("a=1", "b=2,c=3", "") == ("a=1,b=2,c=3", 0)) }

  @Test(arguments: ["a", "=1", "a b=1", "a=\"1\"", "a=1\\2", "a=é", "a=1\u{7f}", "é=1", "(a)=1", " =1"])
  func whatIsNoMemberIsLeftOutAndCounted(_ member: String) {
    #expect(pass("x=1,\(member),y=2") == ("x=1,y=2", 1))
  }

  @Test func membersPastTheirNumberAreLeftOutAndCounted() {
    let members = (0..<Baggage.memberCountMax).map { "k\($0)=v" }
    let whole = members.joined(separator: ",")
    #expect(pass(whole) == (whole, 0))
    #expect(pass(whole + ",more=1,other=2") == (whole, 2))
  }

  @Test func membersPastTheSizeAreLeftOutAndSmallerOnesStillFit() {
    let large = "a=" + String(repeating: "x", count: 8_000)
    let rest = "b=" + String(repeating: "y", count: 8_192 - 8_002 - 1 - 2)
    #expect(pass(large, rest) == (large + "," + rest, 0))
    #expect((large + "," + rest).utf8.count == Baggage.bytesMax)
    #expect(pass(large, rest + "y", "c=1") == (large + ",c=1", 1))
    #expect(pass(large, rest, "c=") == (large + "," + rest, 1))
    #expect(pass("a=" + String(repeating: "x", count: 8_191)) == ("", 1))
  }
}
