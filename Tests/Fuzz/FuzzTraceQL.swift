// TraceQL: any text is a query or is refused at a place within it; a query looks at any trace and ends.

import Base
import Protobuf
import Telemetry
import TraceStore

/// Two spans of one trace, the second with attributes, an event, a link and a status.
private let sample: [UInt8] = {
  var bytes: [UInt8] = []
  func message(_ field: UInt8, _ content: [UInt8]) -> [UInt8] {

    [field << 3 | 2, UInt8(content.count & 127) | 128, UInt8(content.count >> 7)] + content

  }
  let id: [UInt8] = message(1, [UInt8](repeating: 7, count: 16))
  let text = message(1, Array("a".utf8)) + message(2, message(1, Array("b".utf8)))
  let number = message(1, Array("n".utf8)) + message(2, [0x18, 5])
  let root = id + message(2, [0, 0, 0, 0, 0, 0, 0, 1]) + message(5, Array("root".utf8)) + [0x30, 2]
  var child = id + message(2, [0, 0, 0, 0, 0, 0, 0, 2]) + message(4, [0, 0, 0, 0, 0, 0, 0, 1])
  child += message(9, text) + message(9, number) + message(11, message(2, Array("e".utf8)) + message(3, text))
  child += message(15, [0x18, 2])
  return message(1, message(1, message(1, text)) + message(2, message(2, root) + message(2, child)))
}()

// A fuzzer has one thread.
nonisolated(unsafe) private let store: SpanStore = {
  let store = SpanStore(seed: 1)
  sample.withUnsafeBytes { bytes in
    let result = try? store.ingest(bytes, now: 1)
    require(result?.stored == 2, "the sample is a message of two spans")
  }
  return store
}()

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzTraceQL(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let data else { return 0 }
  let text = Array(UnsafeRawBufferPointer(start: data, count: size))
  var out = ByteBuffer()
  do throws(TraceQLError) {
    let query = try TraceQLParser.parse(text)
    store.writeSearch(SearchRequest(.query(query)), into: &out)
    var request = TagRequest()
    request.query = query
    store.writeTagValues(Array("a".utf8), request, into: &out)
  } catch {
    require(
      (0...max(text.count, TraceQLParser.bytesMax)).contains(error.position), "a fault lies in the query")
  }
  do throws(TraceQLError) {
    store.writeSearch(SearchRequest(.tags(try TagQuery(logfmt: text))), into: &out)
  } catch {
    require((0...text.count).contains(error.position), "a fault lies in the tags")
  }
  do throws(TraceQLError) { try store.writeTypedTagValues(text, TagRequest(), into: &out) } catch {}
  return 0
}
