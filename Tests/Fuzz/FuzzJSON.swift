// JSON: the scanner and the tree reader agree, and what passes is valid UTF-8.

import Base
import JSON

private func skips(_ bytes: UnsafeRawBufferPointer) -> Bool {
  var scanner = JSONScanner(bytes)
  do throws(JSONError) {
    let range = try scanner.skipValue()
    require(
      range.lowerBound >= 0 && range.upperBound <= bytes.count && !range.isEmpty, "values lie in the text")
    try scanner.finish()
    return true
  } catch {
    require(error.offset >= 0 && error.offset <= bytes.count, "errors point into the text")
    return false
  }
}

private func parses(_ bytes: UnsafeRawBufferPointer) -> Bool {
  do throws(JSONError) {
    _ = try JSONValue.parse(bytes)
    return true
  } catch {
    return false
  }
}

@_cdecl("LLVMFuzzerTestOneInput")
func fuzzJSON(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
  guard let data else { return 0 }
  exactly(UnsafeRawBufferPointer(start: data, count: size)) { bytes in
    let isValid = skips(bytes)
    require(isValid == parses(bytes), "both readers agree")
    if isValid { require(String(validating: bytes, as: UTF8.self) != nil, "valid JSON is valid UTF-8") }
  }
  return 0
}
