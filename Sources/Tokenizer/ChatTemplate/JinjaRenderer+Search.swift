// Runs a compiled template: searching text, with the work counted where it is done.

internal import Glibc

extension JinjaRenderer {
  /// Offset of the first `needle` at or after `start`. A needle that nearly matches everywhere costs steps as it goes.
  func find(_ needle: JinjaText, in text: JinjaText, from start: Int = 0) throws(ChatTemplateError) -> Int? {
    let size = needle.count
    let last = text.count - size
    if size == 0 { return start <= text.count ? start : nil }
    var at = start
    var work = 0
    while at <= last {
      guard let hit = memchr(text.base + at, Int32(needle.base[0]), last - at + 1) else { break }
      let found = UnsafeRawPointer(hit) - UnsafeRawPointer(text.base)
      var matched = 1
      while matched < size, text.base[found + matched] == needle.base[matched] { matched += 1 }
      if matched == size {
        try step((found - start) >> 6 + work >> 5)
        return found
      }
      work += 8 + matched
      if work > 1 << 16 {
        try step(work >> 5)
        work = 0
      }
      at = found + 1
    }
    try step(max(text.count - start, 0) >> 6 + work >> 5)
    return nil
  }

  /// Offset of the last `needle` that ends at or before `end`.
  func findLast(_ needle: JinjaText, in text: JinjaText, before end: Int) throws(ChatTemplateError) -> Int? {
    let size = needle.count
    if size == 0 { return end }
    var at = end - size
    var work = 0
    while at >= 0 {
      var matched = 0
      while matched < size, text.base[at + matched] == needle.base[matched] { matched += 1 }
      if matched == size { break }
      work += 1 + matched
      if work > 1 << 16 {
        try step(work >> 5)
        work = 0
      }
      at -= 1
    }
    try step(work >> 5)
    return at >= 0 ? at : nil
  }

  /// Counts an operation that looks at each character's properties, which is dear beyond ASCII.
  func stepOverCharacters(of text: JinjaText) throws(ChatTemplateError) {
    let continuations = text.count - text.characterCount
    try step(text.count >> 3 + continuations << 2)
  }
}
